package packages

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"kcagent/deploy/licenses"
)

// wantContents are the mode, owners and paths of the files, apart from those in the folders
// of wantFolders. Owners are those of the package of rpm. dpkg unpacks before the user
// exists, see TestPackageLife for what a host has then.
var wantContents = []string{
	"-rw-r----- root kcagent /etc/default/kcagent",
	"drwxr-x--- root kcagent /etc/kcagent",
	"-rw-r----- root kcagent /etc/kcagent/consumers.yaml",
	"-rwxr-xr-x root root /usr/bin/kcagent",
	"-rw-r--r-- root root /usr/lib/systemd/system/kcagent.service",
	"-rw-r--r-- root root /usr/lib/sysusers.d/kcagent.conf",
	"-rw-r--r-- root root /usr/share/bash-completion/completions/kcagent",
	"-rw-r--r-- root root /usr/share/fish/vendor_completions.d/kcagent.fish",
	"drwxr-x--- kcagent kcagent /var/lib/kcagent",
}

// wantOf are the files of one format.
var wantOf = map[string][]string{
	"deb": {
		"-rw-r--r-- root root /usr/share/lintian/overrides/kcagent",
		"-rw-r--r-- root root /usr/share/zsh/vendor-completions/_kcagent",
	},
	"rpm": {
		"-rw-r--r-- root root /usr/share/licenses/kcagent/LICENSE",
		"-rw-r--r-- root root /usr/share/licenses/kcagent/THIRD_PARTY_LICENSES",
		"-rw-r--r-- root root /usr/share/zsh/site-functions/_kcagent",
	},
}

// wantFolders are the sources of the files in a folder, whose mode is 0644 and owner root.
var wantFolders = map[string][]string{
	"/usr/share/man/man1/":                        {"docs/man/*.1"},
	"/usr/share/doc/kcagent/examples/":            {"examples/*.yaml"},
	"/usr/share/doc/kcagent/examples/prometheus/": {"deploy/prometheus/kcagent.rules.yaml", "deploy/prometheus/scrape.yaml"},
	"/usr/share/doc/kcagent/examples/grafana/":    {"deploy/grafana/*.json"},
	"/usr/share/doc/kcagent/":                     {"CHANGELOG.md", "docs/operations.md"},
}

// contents returns the files of a package, and the folders with a mode or owner of their own.
func contents(t *testing.T, format, file string) []string {
	t.Helper()
	var lines []string
	if format == "rpm" {
		for line := range strings.Lines(output(t, "rpm", "--query", "--package", "--list", "--verbose", file)) {
			f := strings.Fields(line)
			lines = append(lines, strings.Join([]string{f[0], f[2], f[3], f[len(f)-1]}, " "))
		}
		return lines
	}
	for line := range strings.Lines(output(t, "dpkg-deb", "--contents", file)) {
		f := strings.Fields(line)
		path := strings.TrimSuffix(strings.TrimPrefix(f[len(f)-1], "."), "/")
		if f[0] != "drwxr-xr-x" {
			lines = append(lines, strings.Join([]string{f[0], strings.Replace(f[1], "/", " ", 1), path}, " "))
		}
	}
	return lines
}

// TestContents: each package has exactly these files, with owners and modes, and what the unit
// refers to is among them.
func TestContents(t *testing.T) {
	t.Parallel()
	need(t, "dpkg-deb", "dpkg")
	need(t, "rpm", "rpm")
	v, _ := releases(t)
	unit, err := os.ReadFile("../systemd/kcagent.service")
	if err != nil {
		t.Fatal(err)
	}
	documents := regexp.MustCompile(`\S*docs?/\S*[a-z]`).FindAllString(string(unit), -1)
	for format, file := range map[string]string{"deb": v.deb, "rpm": v.rpm} {
		want := append(slices.Clone(wantContents), wantOf[format]...)
		for folder, sources := range wantFolders {
			for _, source := range sources {
				files, err := filepath.Glob(filepath.Join("..", "..", source))
				if err != nil || len(files) == 0 {
					t.Fatal(source, err)
				}
				for _, f := range files {
					name := filepath.Base(f)
					if ext := filepath.Ext(f); ext == ".1" || ext == ".md" {
						name += ".gz"
					}
					want = append(want, "-rw-r--r-- root root "+folder+name)
				}
			}
		}
		if format == "deb" {
			want = append(want, "-rw-r--r-- root root /usr/share/doc/kcagent/changelog.gz", "-rw-r--r-- root root /usr/share/doc/kcagent/copyright",
				"-rw-r--r-- root root /usr/share/doc/kcagent/THIRD_PARTY_LICENSES")
			for i, line := range want {
				want[i] = regexp.MustCompile(`(kcagent|root) kcagent /`).ReplaceAllString(line, "root root /")
			}
		}
		got := contents(t, format, file)
		for _, document := range documents {
			if !slices.Contains(got, "-rw-r--r-- root root "+document) {
				t.Errorf("the unit refers to %s, which the package %s does not contain", document, format)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("the package %s contains\n%s\nwant\n%s", format, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestLicensesOfModules: both packages have the text, which the tests of its own package
// check. rpm marks it as a license, so that it is also installed without documents.
func TestLicensesOfModules(t *testing.T) {
	t.Parallel()
	need(t, "dpkg-deb", "dpkg")
	need(t, "rpm", "rpm")
	v, _ := releases(t)
	text, err := licenses.Text("../..")
	if err != nil {
		t.Fatal(err)
	}
	if files := output(t, "dpkg-deb", "--fsys-tarfile", v.deb); !strings.Contains(files, string(text)) {
		t.Error("the package of Debian does not have the text")
	}
	want := fmt.Sprintf("l /usr/share/licenses/kcagent/%s %x\n", licenses.File, sha256.Sum256(text))
	got := output(t, "rpm", "--query", "--package", "--queryformat", "[%{FILEFLAGS:fflags} %{FILENAMES} %{FILEDIGESTS}\n]", v.rpm)
	if !strings.Contains(got, want) {
		t.Errorf("the package of rpm does not have %s, but\n%s", want, got)
	}
	copyright, err := os.ReadFile("deb/copyright")
	if err != nil || !strings.Contains(string(copyright), "/usr/share/doc/kcagent/"+licenses.File) {
		t.Errorf("the file copyright does not name the text, %v", err)
	}
}

// TestEditedFilesAreMarked: both tools keep edits of these files.
func TestEditedFilesAreMarked(t *testing.T) {
	t.Parallel()
	need(t, "dpkg-deb", "dpkg")
	need(t, "rpm", "rpm")
	v, _ := releases(t)
	const want = "/etc/default/kcagent\n/etc/kcagent/consumers.yaml\n"
	if got := output(t, "dpkg-deb", "--info", v.deb, "conffiles"); got != want {
		t.Errorf("for dpkg, users edit\n%s", got)
	}
	if got := output(t, "rpm", "--query", "--package", "--configfiles", v.rpm); got != want {
		t.Errorf("for rpm, users edit\n%s", got)
	}
	flags := output(t, "rpm", "--query", "--package", "--queryformat", "[%{FILEFLAGS:fflags} %{FILENAMES}\n]", v.rpm)
	for file := range strings.Lines(want) {
		if !strings.Contains(flags, "cn "+file) {
			t.Errorf("rpm replaces %s: its flags are\n%s", file, flags)
		}
	}
}

// TestLintian reports nothing. The package says which of its rules do not apply, and why.
func TestLintian(t *testing.T) {
	t.Parallel()
	need(t, "lintian", "lintian")
	v, _ := releases(t)
	cmd := exec.Command("lintian", "--no-cfg", "--allow-root", "--fail-on", "error,warning", v.deb)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("lintian: %v\n%s", err, out)
	}
}
