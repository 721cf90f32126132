package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kcagent/deploy/image"
	"kcagent/deploy/licenses"
	"kcagent/e2e/tools"
)

const source = "../.."

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSnapshot builds everything that a release consists of from the working tree, twice, and
// checks each file by its content.
func TestSnapshot(t *testing.T) {
	const version = "1.2.3-rc.1+test"
	t.Setenv("SOURCE_DATE_EPOCH", "1777860121")
	out := filepath.Join(t.TempDir(), "release")
	args := []string{"--snapshot", "--version", "v" + version, "--out", out}
	var printed bytes.Buffer
	if err := run(t.Context(), source, args, &printed, io.Discard); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"RELEASE_NOTES.md",
		"SHA256SUMS",
		"kcagent-1.2.3-rc.1+test-chart.tgz",
		"kcagent-1.2.3-rc.1+test-image-amd64.docker.tar",
		"kcagent-1.2.3-rc.1+test-image-arm64.docker.tar",
		"kcagent-1.2.3-rc.1+test-image.oci.tar",
		"kcagent-1.2.3-rc.1+test-linux-amd64.cdx.json",
		"kcagent-1.2.3-rc.1+test-linux-amd64.tar.gz",
		"kcagent-1.2.3-rc.1+test-linux-arm64.cdx.json",
		"kcagent-1.2.3-rc.1+test-linux-arm64.tar.gz",
		"kcagent-1.2.3~rc.1+test-1.aarch64.rpm",
		"kcagent-1.2.3~rc.1+test-1.x86_64.rpm",
		"kcagent_1.2.3~rc.1+test_amd64.deb",
		"kcagent_1.2.3~rc.1+test_arm64.deb",
	}
	if got := names(t, out); !slices.Equal(got, want) {
		t.Errorf("the release consists of %q, not %q", got, want)
	}
	for _, name := range want {
		if !strings.Contains(printed.String(), "  "+name+"\n") {
			t.Errorf("the output does not name %s:\n%s", name, &printed)
		}
	}
	checkSums(t, out)
	checkNotes(t, out, version)
	for _, arch := range image.Arches {
		folder := "kcagent-" + version + "-linux-" + arch
		files := untar(t, filepath.Join(out, folder+".tar.gz"))
		checkArchive(t, files, folder, version, arch)
		checkPackage(t, out, arch, files[folder+"/kcagent"], files[folder+"/"+licenses.File])
		bom, err := os.ReadFile(filepath.Join(out, "kcagent-"+version+"-linux-"+arch+".cdx.json"))
		if err != nil || !bytes.Contains(bom, []byte(`"purl": "pkg:golang/kcagent@1.2.3-rc.1%2Btest"`)) {
			t.Errorf("the bill of materials is not of this version, %v", err)
		}
	}
	checkChart(t, filepath.Join(out, "kcagent-"+version+"-chart.tgz"), version)

	// TestArchivesAreReproducible and the tests of the image and the packages show that these
	// parts are the same in a second release.
	first, err := os.ReadFile(filepath.Join(out, sums))
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), source, append(args, "--only", "notes,chart"), io.Discard, io.Discard); err != nil { // replaces the first
		t.Fatal(err)
	}
	second, err := os.ReadFile(filepath.Join(out, sums))
	if err != nil || bytes.Count(second, []byte("\n")) != 2 {
		t.Fatalf("the sums are %s, %v", second, err)
	}
	for line := range bytes.Lines(second) {
		if !bytes.Contains(first, line) {
			t.Errorf("two releases of one state differ in %s", line)
		}
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// thirdParty is the text of the licenses, which the tests of its package check.
func thirdParty(t *testing.T) []byte {
	t.Helper()
	text, err := licenses.Text(source)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func checkSums(t *testing.T, out string) {
	t.Helper()
	cmd := exec.Command("sha256sum", "--strict", "-c", sums)
	cmd.Dir = out
	text, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(text), ": OK\n") != len(names(t, out))-1 {
		t.Errorf("%v\n%s", err, text)
	}
}

func checkNotes(t *testing.T, out, version string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(out, "RELEASE_NOTES.md"))
	if err != nil || !strings.HasPrefix(string(text), "# kcagent "+version+"\n\n") || strings.Contains(string(text), "Unreleased") {
		t.Errorf("notes are %.200q, %v", text, err)
	}
	if found := relativeLinks.FindAllString(string(text), -1); len(found) > 0 {
		t.Errorf("the notes have links to files of the repository: %q", found)
	}
	for _, want := range []string{"docs/operations.md", "`kcagent:" + image.Tag(version) + "`", "`kcagent-" + version + "-chart.tgz`", "sha256sum --ignore-missing -c SHA256SUMS"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the notes have no %s", want)
		}
	}
}

// relativeLinks matches links to files.
var relativeLinks = regexp.MustCompile(`\]\(([^):#]+)[^):]*\)`)

// TestLinksOfTheArchive: the archive has what its README and changelog link to, and the files
// of docs that pages in docs link to.
func TestLinksOfTheArchive(t *testing.T) {
	t.Parallel()
	files, err := commonFiles(source)
	if err != nil {
		t.Fatal(err)
	}
	has, links := make(map[string]bool), 0
	for _, f := range files {
		has[f.name], has[path.Dir(f.name)] = true, true // a page may link to a folder
	}
	for _, f := range files {
		inDocs := path.Dir(f.name) == "docs"
		if f.name != "README.md" && f.name != "CHANGELOG.md" && !(inDocs && path.Ext(f.name) == ".md") {
			continue
		}
		for _, m := range relativeLinks.FindAllStringSubmatch(string(f.content), -1) {
			if inDocs && strings.HasPrefix(m[1], "../") {
				continue // source code
			}
			links++
			if to := path.Join(path.Dir(f.name), m[1]); !has[to] {
				t.Errorf("%s links to %s, which the archive does not have", f.name, to)
			}
		}
	}
	if links < 100 {
		t.Errorf("only %d links", links)
	}
}

// checkArchive: the archive has the binary of its architecture and all that belongs to it.
func checkArchive(t *testing.T, files map[string][]byte, folder, version, arch string) {
	t.Helper()
	for name, from := range map[string]string{
		"LICENSE": "LICENSE", "README.md": "README.md", "CHANGELOG.md": "CHANGELOG.md",
		"man/kcagent.1":                 "docs/man/kcagent.1",
		"man/kcagent-run.1":             "docs/man/kcagent-run.1",
		"prometheus/kcagent.rules.yaml": "deploy/prometheus/kcagent.rules.yaml",
		"grafana/kcagent.json":          "deploy/grafana/kcagent.json",
		"systemd/kcagent.service":       "deploy/systemd/kcagent.service",
		"systemd/kcagent.default":       "deploy/systemd/kcagent.default",
		"consumers.yaml":                "consumers.yaml",
	} {
		want, err := os.ReadFile(filepath.Join(source, from))
		if err != nil || !bytes.Equal(files[folder+"/"+name], want) {
			t.Errorf("%s in the archive for %s is not %s, %v", name, arch, from, err)
		}
	}
	if text := files[folder+"/"+licenses.File]; !bytes.Equal(text, thirdParty(t)) {
		t.Errorf("the archive for %s has licenses of %d bytes, not those of the modules", arch, len(text))
	}
	for name, want := range map[string]string{
		"completions/kcagent.bash": "complete -o default",
		"completions/_kcagent":     "#compdef kcagent",
		"completions/kcagent.fish": "complete -c kcagent",
	} {
		if !bytes.Contains(files[folder+"/"+name], []byte(want)) {
			t.Errorf("%s in the archive for %s has no %q", name, arch, want)
		}
	}
	for name := range files {
		if !strings.HasPrefix(name, folder+"/") {
			t.Errorf("the archive for %s has %s outside its folder", arch, name)
		}
	}
	if arch != runtime.GOARCH || runtime.GOOS != "linux" {
		return
	}
	binary := filepath.Join(t.TempDir(), "kcagent")
	if err := os.WriteFile(binary, files[folder+"/kcagent"], 0o755); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command(binary, "version").Output(); err != nil || !strings.HasPrefix(string(text), "kcagent "+version+" (") {
		t.Errorf("version prints %q, %v", text, err)
	}
}

// checkPackage: the package for Debian, whose own tests install it, holds the same files as
// the archive.
func checkPackage(t *testing.T, out, arch string, files ...[]byte) {
	t.Helper()
	text, err := exec.Command("dpkg-deb", "--fsys-tarfile", filepath.Join(out, "kcagent_1.2.3~rc.1+test_"+arch+".deb")).Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range files {
		if len(file) == 0 || !bytes.Contains(text, file) {
			t.Errorf("the package for %s does not have file %d of the archive", arch, i)
		}
	}
}

// checkChart: helm accepts the chart, which runs the image of the same version.
func checkChart(t *testing.T, path, version string) {
	t.Helper()
	for name := range untar(t, path) {
		if !strings.HasPrefix(name, "kcagent/") {
			t.Errorf("the chart has %s outside its folder", name)
		}
	}
	helm := tools.Go(t, "helm.sh/helm/v3/cmd/helm@v3.22.0")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"show", "chart", path}, "version: " + version + "\n"},
		{[]string{"template", "x", path}, `image: "kcagent:` + image.Tag(version)},
	} {
		out, err := exec.Command(helm, c.args...).CombinedOutput()
		if err != nil || !strings.Contains(strings.ReplaceAll(string(out), `image: kcagent`, `image: "kcagent`), c.want) {
			t.Errorf("helm %v: %v, no %q in\n%s", c.args, err, c.want, out)
		}
	}
}

// untar returns the files of a tar.gz, and checks that nothing in it depends on the machine.
func untar(t *testing.T, path string) map[string][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		} else if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Uname != "root" || !h.ModTime.Equal(time.Unix(1777860121, 0)) {
			t.Errorf("%s has the owner %d and the time %v", h.Name, h.Uid, h.ModTime)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// TestArchivesAreReproducible: archives of sources in another folder are the same. A few
// bytes stand for the binaries, whose builds the tests of the image compare.
func TestArchivesAreReproducible(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "kcagent")
	if err := os.WriteFile(binary, []byte("the program"), 0o600); err != nil {
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
	var archives [2][]byte
	for i, source := range []string{source, elsewhere} {
		r := &release{
			identity: identity{Version: "1.2.3", Source: source, Created: time.Unix(1777860121, 0)},
			dir:      t.TempDir(), compiled: map[string]string{"amd64": binary, "arm64": binary},
		}
		if err := writeArchives(r); err != nil {
			t.Fatal(err)
		}
		if archives[i], err = os.ReadFile(filepath.Join(r.dir, "kcagent-1.2.3-linux-arm64.tar.gz")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Errorf("archives of %d and %d bytes differ", len(archives[0]), len(archives[1]))
	}
}

// TestSelectParts: --only builds some of the parts, and its error names the parts that exist.
func TestSelectParts(t *testing.T) {
	selected, err := selectParts("sbom,image")
	if err != nil || len(selected) != 2 || selected[0].name != "image" || selected[1].name != "sbom" {
		t.Errorf("selected %v, %v", selected, err)
	}
	if _, err := selectParts("images"); err == nil || !strings.Contains(err.Error(), `unknown part "images": use notes, archives, `) {
		t.Errorf("error is %v", err)
	}
}

// TestOutKeepsForeignFiles: a folder that holds something else than a release is not replaced.
func TestOutKeepsForeignFiles(t *testing.T) {
	out := t.TempDir()
	kept := filepath.Join(out, "kept")
	if err := os.WriteFile(kept, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1")
	err := run(t.Context(), source, []string{"--snapshot", "--out", out, "--only", "notes"}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "holds files that are not a release; move them, or use another --out") {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
}

// TestOutCannotBeWritten: the error says what to do.
func TestOutCannotBeWritten(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1")
	occupied := filepath.Join(t.TempDir(), "file") // a folder without permission does not stop root
	if err := os.WriteFile(occupied, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{occupied, filepath.Join(occupied, "release"), filepath.Join(occupied, "a", "release"), "/proc/release"} {
		err := run(t.Context(), source, []string{"--snapshot", "--out", out, "--only", "notes"}, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "use another --out") {
			t.Errorf("the error of %s is %v", out, err)
		}
	}
}

// TestNotes: the notes are one section of the changelog, without its heading.
func TestNotes(t *testing.T) {
	const changelog = "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-05-04\n\n### Added\n\n- a\n\n## [1.2.2]\n\n- b\n"
	for section, want := range map[string]string{"1.2.3": "### Added\n\n- a\n", "1.2.2": "- b\n"} {
		if got, err := notes(changelog, section); err != nil || got != want {
			t.Errorf("the notes of %s are %q, %v", section, got, err)
		}
	}
	for section, want := range map[string]string{
		"1.2":        "CHANGELOG.md has no section [1.2]; rename its section [Unreleased], or use --snapshot",
		"Unreleased": "the section [Unreleased] of CHANGELOG.md is empty; describe the changes in it",
	} {
		if _, err := notes(changelog, section); err == nil || err.Error() != want {
			t.Errorf("the error of %s is %v, not %s", section, err, want)
		}
	}
}
