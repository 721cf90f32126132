package packages

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"kcagent/e2e/loud"
	"kcagent/e2e/tools"
	"kcagent/e2e/wait"
)

// A host is a copy of this machine's files with mounts, processes and a network of its own. A
// test installs packages in it as root, and the machine does not change.
type host struct {
	t   *testing.T
	pid int // of the process that keeps the host alive
}

// keepHost mounts the files of a host: changes go to memory. The folder of the packages is
// /mnt. Only after chroot it is ready: commands enter the root of this process. The host ends
// when its stdin is closed, also if the test is killed.
const keepHost = `
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
cd "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --bind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount --bind "$2" mnt
ip link set lo up
rm -rf usr/sbin/policy-rc.d etc/dpkg/dpkg.cfg.d/* etc/kcagent etc/default/kcagent var/lib/kcagent var/lib/man-db/auto-update
chroot . sh -c 'if getent passwd kcagent >/dev/null; then userdel kcagent; fi'
exec chroot . sh -c 'echo ready; exec cat'`

// newHost creates a host with the folder of the packages.
func newHost(t *testing.T, packages string) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		loud.Skip(t, tools.Require, "the tests of the packages need root, to mount a copy of the file system")
	}
	need(t, "nsenter", "util-linux")
	need(t, "ip", "iproute2")
	var stderr bytes.Buffer
	cmd := exec.Command("sh", "-c", keepHost, "sh", t.TempDir(), packages)
	cmd.Stderr, cmd.WaitDelay = &stderr, time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Unshareflags: syscall.CLONE_NEWNS,
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill() // and with it all processes of the host
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		loud.Skip(t, tools.Require, fmt.Sprintf("the system does not permit a host for tests: %v\n%s", err, &stderr))
	}
	return &host{t: t, pid: cmd.Process.Pid}
}

// command returns a command in the host, with the environment of a package manager that no
// one watches.
func (h *host) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{
		"--target", strconv.Itoa(h.pid), "--mount", "--pid", "--net", "--root", "--wd", "--", name,
	}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// run runs a command in the host and returns what it printed. It must succeed.
func (h *host) run(name string, args ...string) string {
	h.t.Helper()
	out, err := h.command(name, args...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// sh runs a script in the host and returns what it printed, without a newline at the end.
func (h *host) sh(script string) string {
	h.t.Helper()
	return strings.TrimSuffix(h.run("sh", "-euc", script), "\n")
}

// expect runs a script in the host that must print want.
func (h *host) expect(want, script string) {
	h.t.Helper()
	if got := h.sh(script); got != want {
		h.t.Errorf("%s\nprints %q, want %q", script, got, want)
	}
}

// background starts a command in the host. Its first line is its process id. The returned
// function ends it as systemd does, and returns its exit code.
func (h *host) background(script string) (stop func() int) {
	h.t.Helper()
	log, err := os.CreateTemp(h.t.TempDir(), "log") // a pipe would make Wait wait for the process
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = log.Close() })
	cmd := h.command("sh", "-euc", "echo $$; exec 1>&2; "+script)
	cmd.Stderr = log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := false
	h.t.Cleanup(func() {
		if !ended {
			_ = cmd.Process.Kill() // nsenter; the command itself ends with the host
			_ = cmd.Wait()
		}
		if h.t.Failed() {
			text, err := os.ReadFile(log.Name())
			h.t.Logf("the log of %s: %v\n%s", script, err, text)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		h.t.Fatal(err)
	}
	return func() int {
		h.t.Helper()
		h.run("kill", "-TERM", strings.TrimSpace(line))
		_ = cmd.Wait() // the exit code says the rest
		ended = true
		return cmd.ProcessState.ExitCode()
	}
}

// startService runs the command of the installed unit as systemd does: as the unit's user,
// with the variables of its environment file. It returns when the agent responds.
func (h *host) startService() (stop func()) {
	h.t.Helper()
	unit := h.sh("cat /usr/lib/systemd/system/kcagent.service")
	setting := func(name string) string {
		h.t.Helper()
		m := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindStringSubmatch(unit)
		if m == nil {
			h.t.Fatalf("the unit has no %s:\n%s", name, unit)
		}
		return m[1]
	}
	user, environment := setting("User"), strings.TrimPrefix(setting("EnvironmentFile"), "-")
	end := h.background(fmt.Sprintf(". %s; exec setpriv --reuid=%s --regid=%s --init-groups %s", environment, user, setting("Group"), setting("ExecStart")))
	wait.For(h.t, wait.Timeout, "the service to respond", func() error {
		out, err := h.command("kcagent", "health").CombinedOutput()
		if err != nil {
			return fmt.Errorf("kcagent health: %w: %s", err, out)
		}
		return nil
	})
	return func() {
		h.t.Helper()
		if code := end(); code != 0 {
			h.t.Errorf("the service ended with code %d", code)
		}
	}
}
