package packages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"kcagent/config"
	"kcagent/e2e/loud"
	"kcagent/e2e/tools"
)

// release is what most tests use: two versions of the packages for this machine.
var release struct {
	once   sync.Once
	dir    string
	former version
	latter version
	err    error
}

// A version is one release with its packages.
type version struct{ number, deb, rpm string }

func TestMain(m *testing.M) {
	code := m.Run()
	if release.dir != "" {
		_ = os.RemoveAll(release.dir)
	}
	os.Exit(code)
}

// releases returns two versions of the packages. The first call builds them.
func releases(t *testing.T) (former, latter version) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds two releases")
	}
	release.once.Do(func() {
		needNfpm(t)
		if release.dir, release.err = os.MkdirTemp("", "kcagent-packages-test-"); release.err != nil {
			return
		}
		// Other users of a test's host read the folder.
		release.err = errors.Join(os.Chmod(release.dir, 0o755),
			release.former.build(release.dir, "1.0.0-rc.1"), release.latter.build(release.dir, "1.0.0"))
	})
	if release.err != nil {
		t.Fatal(release.err)
	}
	if release.latter.rpm == "" {
		needNfpm(t) // skips this test, too
	}
	return release.former, release.latter
}

// build builds the program and its packages.
func (v *version) build(dir, number string) error {
	binary := filepath.Join(dir, "kcagent-"+number)
	// With the flags of image.Binary, so that Go's cache has most of it.
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X kcagent/cli.linked="+number, "-o", binary, "kcagent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build kcagent: %w\n%s", err, out)
	}
	files, err := Build(context.Background(), Options{Version: "v" + number, Arch: runtime.GOARCH, Binary: binary, Dir: dir})
	if err != nil {
		return err
	}
	*v = version{number, files[0], files[1]}
	return nil
}

// needNfpm skips the test with a notice if the module proxy does not provide nfpm.
func needNfpm(t *testing.T) {
	t.Helper()
	cmd := exec.Command("go", "run", nfpm, "--version")
	cmd.Env = append(os.Environ(), "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		loud.Skip(t, tools.Require, fmt.Sprintf("this test needs nfpm: %v\n%s", err, out))
	}
}

// need skips the test with a notice if a program of Debian is missing.
func need(t *testing.T, name, debian string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		loud.Skip(t, tools.Require, name+" is not installed (Debian: apt-get install "+debian+")")
	}
}

// output runs a command and returns what it printed to stdout.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stderr = append(os.Environ(), "LC_ALL=C.UTF-8"), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}

// TestVersions: each version of the program becomes one that packages can have.
func TestVersions(t *testing.T) {
	for of, want := range map[string]string{
		"v1.2.3":                        "1.2.3",
		"1.2.3":                         "1.2.3",
		"v1.2.3-rc.1":                   "1.2.3~rc.1",
		"v1.2.3-beta-2":                 "1.2.3~beta.2",
		"v1.2.3+build.7":                "1.2.3+build.7",
		"v1.2.3-4-gabcdef0":             "1.2.3+4.gabcdef0",
		"v1.2.3-4-gabcdef0-dirty":       "1.2.3+4.gabcdef0.dirty",
		"v1.2.3-dirty":                  "1.2.3+dirty",
		"v1.2.3-rc.1-4-gabcdef0":        "1.2.3~rc.1+4.gabcdef0",
		"devel":                         "0.0.0~devel",
		"abcdef0":                       "0.0.0~abcdef0",
		"abcdef0-dirty":                 "0.0.0~abcdef0.dirty",
		"v0.0.0-20261127213000-abcdef0": "0.0.0~20261127213000.abcdef0",
	} {
		if got, err := Version(of); err != nil || got != want {
			t.Errorf("Version(%q) is %q, %v, want %q", of, got, err, want)
		}
	}
	for _, of := range []string{"", "latest", "v1.2", "1.2.3 4", "v1.2.3_4"} {
		if got, err := Version(of); err == nil || !strings.Contains(err.Error(), "use a semantic version") {
			t.Errorf("Version(%q) is %q, %v, want an error", of, got, err)
		}
	}
}

// TestVersionsAreOrdered: dpkg and rpm upgrade from each version to the next.
func TestVersionsAreOrdered(t *testing.T) {
	need(t, "dpkg", "dpkg")
	need(t, "rpm", "rpm")
	var versions []string
	for _, of := range []string{"devel", "v1.2.3-rc.1", "v1.2.3-rc.1-4-gabcdef0", "v1.2.3-rc.2", "v1.2.3-rc.10", "v1.2.3", "v1.2.3-4-gabcdef0", "v1.2.3-10-g0123456", "v1.2.4-rc.1", "v1.2.4", "v1.10.0"} {
		v, err := Version(of)
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, v)
	}
	for i, v := range versions[1:] {
		former := versions[i]
		if err := exec.Command("dpkg", "--compare-versions", former, "lt", v).Run(); err != nil {
			t.Errorf("for dpkg, %s is not before %s: %v", former, v, err)
		}
		order := output(t, "rpm", "--eval", fmt.Sprintf(`%%{lua:print(rpm.vercmp("%s", "%s"))}`, former, v))
		if strings.TrimSpace(order) != "-1" {
			t.Errorf("for rpm, %s is not before %s: %s", former, v, order)
		}
	}
}

// TestBuildsAreEqual: with SOURCE_DATE_EPOCH, times, modes and places of the sources have no
// effect. The packages name their architecture.
func TestBuildsAreEqual(t *testing.T) {
	if testing.Short() {
		t.Skip("builds packages")
	}
	needNfpm(t)
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	var first []string
	for round := range 2 {
		dir := t.TempDir()
		binary := filepath.Join(dir, fmt.Sprintf("binary-%d", round))
		if err := os.WriteFile(binary, []byte("the program"), []os.FileMode{0o755, 0o600}[round]); err != nil {
			t.Fatal(err)
		}
		files, err := Build(t.Context(), Options{Version: "v1.2.3-rc.1", Arch: "arm64", Binary: binary, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			first = files
			continue
		}
		for i, name := range []string{"kcagent_1.2.3~rc.1_arm64.deb", "kcagent-1.2.3~rc.1-1.aarch64.rpm"} {
			if filepath.Base(files[i]) != name {
				t.Errorf("the name is %s, want %s", files[i], name)
			}
			a, err := os.ReadFile(first[i])
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(files[i])
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(a, b) {
				t.Errorf("two builds of %s differ", name)
			}
		}
		need(t, "rpm", "rpm")
		if got := output(t, "dpkg-deb", "--show", "--showformat", "${Version} ${Architecture}", files[0]); got != "1.2.3~rc.1 arm64" {
			t.Errorf("the package of Debian is %q", got)
		}
		if got := output(t, "rpm", "--query", "--package", "--queryformat", "%{VERSION}-%{RELEASE} %{ARCH} %{BUILDHOST} %{BUILDTIME}", files[1]); got != "1.2.3~rc.1-1 aarch64 localhost 1700000000" {
			t.Errorf("the package of rpm is %q", got)
		}
	}
}

// TestBuildRejectsMistakes before it starts.
func TestBuildRejectsMistakes(t *testing.T) {
	for want, o := range map[string]Options{
		"use amd64 or arm64":     {Version: "v1.0.0", Arch: "386"},
		"use a semantic version": {Version: "latest", Arch: "amd64"},
	} {
		if _, err := Build(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q", err, want)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if _, err := Build(t.Context(), Options{Version: "v1.0.0", Arch: "amd64"}); err == nil || !strings.Contains(err.Error(), "use seconds since 1970") {
		t.Errorf("the error is %v", err)
	}
}

// TestFirstFileIsValid, and so is the consumer that its comments show.
func TestFirstFileIsValid(t *testing.T) {
	text, err := os.ReadFile("consumers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	example := strings.Replace(string(text), "consumers: []\n#- ", "consumers:\n- ", 1)
	head, consumer, _ := strings.Cut(example, "consumers:\n")
	for consumers, file := range []string{string(text), head + "consumers:\n" + strings.ReplaceAll(consumer, "\n#", "\n")} {
		c, problems := config.Parse("consumers.yaml", []byte(file), os.LookupEnv)
		if len(problems) > 0 || len(c.Consumers) != consumers {
			t.Errorf("%v, %d consumers, want %d, in\n%s", problems, len(c.Consumers), consumers, file)
		}
	}
}

// TestUserIsTheSame in both packages: rpm's script contains the line of sysusers.conf.
func TestUserIsTheSame(t *testing.T) {
	line, err := os.ReadFile("sysusers.conf")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("rpm/pre")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(script, line) {
		t.Errorf("rpm/pre does not contain %s", line)
	}
}

// TestUnitAgreesWithThePackage: systemd sets the same modes as the package, and reads the
// files of the package.
func TestUnitAgreesWithThePackage(t *testing.T) {
	text, err := os.ReadFile("../systemd/kcagent.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{
		"User=kcagent", "Group=kcagent", "EnvironmentFile=-/etc/default/kcagent",
		"ConfigurationDirectory=kcagent", "ConfigurationDirectoryMode=0750",
		"StateDirectory=kcagent", "StateDirectoryMode=0750",
	} {
		if !strings.Contains(string(text), "\n"+setting+"\n") {
			t.Errorf("the unit has no %s", setting)
		}
	}
}
