package licenses

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const source = "../.."

// sections returns the text of each module, by path and version.
func sections(t *testing.T, text []byte) map[string]string {
	t.Helper()
	found := make(map[string]string)
	line := "\n" + strings.Repeat("=", 80) + "\n"
	for _, section := range strings.Split(string(text), line)[1:] {
		name, rest, _ := strings.Cut(section, "\n")
		if found[name] != "" {
			t.Errorf("%s appears twice", name)
		}
		found[name] = rest
	}
	return found
}

// TestEachModuleHasItsLicense: the text has each module whose packages the binary is built
// from, on both architectures, the standard library and the certificates, and no other ones.
func TestEachModuleHasItsLicense(t *testing.T) {
	t.Parallel()
	text, err := Text(source)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"std " + strings.TrimPrefix(runtime.Version(), "go")}
	format := "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\n{{end}}{{end}}"
	for _, arch := range []string{"amd64", "arm64"} {
		cmd := exec.Command("go", "list", "-deps", "-f", format, "kcagent", "golang.org/x/crypto/x509roots/fallback/bundle")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })...)
	}
	slices.Sort(want)
	want = slices.Compact(want)
	got := sections(t, text)
	grant := regexp.MustCompile(`(?i)permission is hereby granted|redistribution and use|licensed under the apache license|apache\s+license\s+version 2.0|permission to use, copy|mozilla public license`)
	for _, name := range want {
		if !grant.MatchString(got[name]) {
			t.Errorf("%s has no license, but %.200q", name, got[name])
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s is not linked", name)
	}
}

// TestTextHasNoticesAndNestedLicenses: Apache's license requires the NOTICE of a module, and
// a module can contain code with another license than its own.
func TestTextHasNoticesAndNestedLicenses(t *testing.T) {
	t.Parallel()
	text, err := Text(source)
	if err != nil {
		t.Fatal(err)
	}
	found := sections(t, text)
	for prefix, files := range map[string][]string{
		"std ":                                      {"LICENSE", "PATENTS"},
		"gopkg.in/yaml.v3 ":                         {"LICENSE", "NOTICE"},
		"github.com/aws/aws-sdk-go-v2 ":             {"LICENSE.txt", "NOTICE.txt"},
		"github.com/aymanbagabas/go-udiff ":         {"LICENSE-BSD", "LICENSE-MIT"},
		"github.com/klauspost/compress ":            {"LICENSE", "zstd/internal/xxhash/LICENSE.txt"},
		"github.com/prometheus/client_golang ":      {"NOTICE", "internal/github.com/golang/gddo/LICENSE"},
		"golang.org/x/crypto/x509roots/fallback v0": {"LICENSE"},
	} {
		var section string
		for name, s := range found {
			if strings.HasPrefix(name, prefix) {
				section = s
			}
		}
		for _, file := range files {
			if _, content, ok := strings.Cut(section, "\n--- "+file+" ---\n\n"); !ok || len(content) < 30 {
				t.Errorf("%sdoes not have %s", prefix, file)
			}
		}
	}
}

// TestTextIsReproducible: neither the folder of the sources nor settings of the user change
// the text, and it contains no path of the machine.
func TestTextIsReproducible(t *testing.T) {
	first, err := Text(source)
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Symlink(root, elsewhere); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"GOFLAGS": "-mod=vendor", "GOOS": "windows", "GOARCH": "386"} {
		t.Setenv(name, value)
	}
	if second, err := Text(elsewhere); err != nil || !bytes.Equal(first, second) {
		t.Errorf("texts of %d and %d bytes differ, %v", len(first), len(second), err)
	}
	folders, err := exec.Command("go", "env", "GOROOT", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(strings.Fields(string(folders)), root) {
		if bytes.Contains(first, []byte(path)) {
			t.Errorf("the text contains %s", path)
		}
	}
}

// TestModuleWithoutLicense: the error names the module. A notice or a license that is only
// for one of its packages is not enough.
func TestModuleWithoutLicense(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                  "module kcagent\n\ngo 1.26\n\nrequire (\n\texample.com/bare v1.2.3\n\tgolang.org/x/crypto/x509roots/fallback v0.0.0\n)\n\nreplace (\n\texample.com/bare => ./bare\n\tgolang.org/x/crypto/x509roots/fallback => ./fallback\n)\n",
		"main.go":                 "package main\n\nimport _ \"example.com/bare/copied\"\n\nfunc main() {}\n",
		"bare/go.mod":             "module example.com/bare\n",
		"bare/NOTICE":             "a notice\n",
		"bare/license.go":         "package bare\n",
		"bare/copied/LICENSE":     "a license\n",
		"bare/copied/copied.go":   "package copied\n",
		"fallback/go.mod":         "module golang.org/x/crypto/x509roots/fallback\n",
		"fallback/LICENSE":        "a license\n",
		"fallback/bundle/main.go": "package bundle\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Text(dir)
	if want := "collect licenses of example.com/bare v1.2.3: no license file in its root folder; use another module"; err == nil || err.Error() != want {
		t.Errorf("the error is %v, not %s", err, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "bare", "COPYING"), []byte("its license\r\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	text, err := Text(dir)
	if err != nil {
		t.Fatal(err)
	}
	const want = "\n--- COPYING ---\n\nits license\n\n--- NOTICE ---\n\na notice\n\n--- copied/LICENSE ---\n\na license\n"
	if got := sections(t, text)["example.com/bare v1.2.3"]; got != want {
		t.Errorf("the text of the module is %q, not %q", got, want)
	}
}

// TestModulesAreRequired: a mistake in the sources is reported with the words of the go
// command.
func TestModulesAreRequired(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module kcagent\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Text(dir); err == nil || !strings.Contains(err.Error(), "list modules for amd64: ") || !strings.Contains(err.Error(), "no required module provides package "+certificates) {
		t.Errorf("the error is %v", err)
	}
}
