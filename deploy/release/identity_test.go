package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// clone returns a repository with one commit that looks like kcagent, at a fixed time.
func clone(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "go.mod", "module kcagent\n")
	write(t, dir, "CHANGELOG.md", "## [Unreleased]\n\n- a\n")
	gitRun(t, dir, "init", "-q")
	gitRun(t, dir, "add", ".")
	gitRun(t, dir, "commit", "-q", "-m", "first")
	return dir
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func gitRun(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=x", "-c", "user.email=x@example.com"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_COMMITTER_DATE=2026-05-04T02:02:01Z", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestIdentify: the version comes from the tag, the time from the commit. Without a clean
// tagged commit, only a snapshot is built.
func TestIdentify(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "")
	dir := clone(t)
	revision := gitRun(t, dir, "rev-parse", "HEAD")
	expect := func(what, version, given string, snapshot bool) {
		t.Helper()
		id, err := identify(t.Context(), dir, given, snapshot)
		if err != nil || id.Version != version || id.Revision != revision || id.Created.Unix() != 1777860121 || id.Snapshot != snapshot {
			t.Errorf("%s: %+v, %v", what, id, err)
		}
	}
	rejects := func(what, want, given string, snapshot bool) {
		t.Helper()
		if _, err := identify(t.Context(), dir, given, snapshot); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, not %s", what, err, want)
		}
	}
	rejects("no tag", "the commit has no tag; create it with git tag v1.2.3, or use --version or --snapshot", "", false)
	expect("snapshot", "0.0.0-dev+"+revision[:12], "", true)
	expect("given version", "2.0.0", "v2.0.0", false)
	rejects("invalid version", `invalid version "2.0": use a semantic version such as v1.2.3`, "2.0", false)
	gitRun(t, dir, "tag", "1.2.3")
	rejects("tag without v", "the tag 1.2.3 has no leading v; create another with git tag v1.2.3", "", false)
	gitRun(t, dir, "tag", "v1.2.3")
	expect("tag", "1.2.3", "", false)
	write(t, dir, "new", "")
	rejects("changes", "the working tree has changes; commit them, or use --snapshot", "", false)
	expect("snapshot with changes", "0.0.0-dev+"+revision[:12]+".dirty", "", true)
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	rejects("time", `invalid SOURCE_DATE_EPOCH "yesterday": use seconds since 1970`, "", true)
}

// TestIdentifyWithoutGit: a snapshot of unpacked source code needs a time.
func TestIdentifyWithoutGit(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(dir))
	if _, err := identify(t.Context(), dir, "", true); err == nil || !strings.Contains(err.Error(), "is not the root of kcagent; run the command there") {
		t.Errorf("error is %v", err)
	}
	write(t, dir, "go.mod", "module kcagent\n")
	t.Setenv("SOURCE_DATE_EPOCH", "")
	if _, err := identify(t.Context(), dir, "", false); err == nil || !strings.Contains(err.Error(), "use a clone of the repository, or --snapshot") {
		t.Errorf("error is %v", err)
	}
	if _, err := identify(t.Context(), dir, "", true); err == nil || !strings.Contains(err.Error(), "set SOURCE_DATE_EPOCH") {
		t.Errorf("error is %v", err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "5")
	if id, err := identify(t.Context(), dir, "", true); err != nil || id.Version != "0.0.0-dev+unknown" || id.Created.Unix() != 5 {
		t.Errorf("%+v, %v", id, err)
	}
}

// TestReleaseNeedsNotes: a version without a section in the changelog is rejected before
// anything is built.
func TestReleaseNeedsNotes(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "")
	dir := clone(t)
	gitRun(t, dir, "tag", "v1.2.3")
	out := filepath.Join(t.TempDir(), "release")
	err := run(t.Context(), dir, []string{"--out", out}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "build 1.2.3: notes: CHANGELOG.md has no section [1.2.3]") {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("the folder of the release: %v", err)
	}
}

// TestGoInstallShowsTheTag: `go install .` in a clone with a tag installs a kcagent of that
// version.
func TestGoInstallShowsTheTag(t *testing.T) {
	t.Parallel()
	dir, bin := t.TempDir(), t.TempDir()
	root, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	// A copy of the program, because the working tree may have changes or no repository.
	list := exec.Command("go", "list", "-deps", "-f", `{{with .Module}}{{if .Main}}{{range $.GoFiles}}{{$.Dir}}/{{.}}
{{end}}{{range $.EmbedFiles}}{{$.Dir}}/{{.}}
{{end}}{{end}}{{end}}`, ".")
	list.Dir = root
	files, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for file := range strings.FieldsSeq(string(files) + " " + root + "/go.mod " + root + "/go.sum") {
		to := filepath.Join(dir, strings.TrimPrefix(file, root))
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	gitRun(t, dir, "init", "-q")
	gitRun(t, dir, "add", ".")
	gitRun(t, dir, "commit", "-q", "-m", "first")
	gitRun(t, dir, "tag", "v1.2.3")
	install := exec.Command("go", "install", ".")
	install.Dir = dir
	// With -trimpath, Go's cache has the packages, which TestSnapshot needs, too.
	install.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=-buildvcs=true -trimpath", "CGO_ENABLED=0")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(filepath.Join(bin, "kcagent"), "version").Output(); err != nil || !strings.HasPrefix(string(out), "kcagent 1.2.3 (") {
		t.Errorf("version prints %q, %v", out, err)
	}
}
