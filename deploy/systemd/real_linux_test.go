package systemd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/loud"
	"kcagent/e2e/process"
	"kcagent/e2e/wait"
)

// A machine runs a real systemd in namespaces of its own, with the unit installed. It shares
// the network of the test.
type machine struct {
	t   *testing.T
	pid string // of systemd
	url string // of the agent
}

// boot starts a machine. Where the system does not permit that, the test is skipped. CI does
// not require it, because many containers do not permit it.
func boot(t *testing.T, config string) *machine {
	t.Helper()
	const require = "KCAGENT_REQUIRE_SYSTEMD"
	if os.Getuid() != 0 {
		loud.Skip(t, require, "a systemd in namespaces of its own needs root")
	}
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		loud.Skip(t, require, "systemd is not installed (Debian: apt-get install systemd)")
	}
	dir := t.TempDir()
	port := strconv.Itoa(kafkatest.FreePort(t))
	defaults, err := os.ReadFile(defaultFile)
	if err != nil {
		t.Fatal(err)
	}
	defaults = bytes.ReplaceAll(defaults, []byte(`ARGS="`), []byte(`ARGS="--listen=127.0.0.1:`+port+` `))
	defaults = bytes.ReplaceAll(defaults, []byte("127.0.0.1:8080"), []byte("127.0.0.1:"+port))
	script, unit := absolute(t, "testdata/boot.sh"), absolute(t, unitFile)
	changed, root := filepath.Join(dir, defaultFile), filepath.Join(dir, "root")
	if err := errors.Join(os.WriteFile(changed, defaults, 0o600), os.Mkdir(root, 0o755)); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "boot.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("unshare", "--mount", "sh", script, root, agenttest.ReleasedBinary(t), unit, changed)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := process.Start(cmd)
	if err != nil {
		loud.Skip(t, require, "unshare cannot start: "+err.Error())
	}
	t.Cleanup(func() {
		p.Kill()
		removeCgroup(t, p.Pid())
	})
	m := &machine{t: t, url: "http://127.0.0.1:" + port}
	limit := time.Now().Add(wait.Timeout)
	for err = m.find(p.Pid()); err != nil; err = m.find(p.Pid()) {
		select {
		case <-p.Done():
			limit = time.Now()
		case <-time.After(50 * time.Millisecond):
		}
		if !time.Now().Before(limit) {
			text, _ := os.ReadFile(log.Name())
			loud.Skip(t, require, fmt.Sprintf("a systemd in namespaces of its own does not start: %v\n%s", err, text))
		}
	}
	m.write("/etc/kcagent/consumers.yaml", config)
	m.write("/etc/systemd/system/kcagent.service.d/test.conf", dropIn)
	m.must("daemon-reload")
	return m
}

// dropIn changes the unit for the test. A system call that the unit forbids kills the agent
// here, so that the test finds it.
const dropIn = `[Service]
StandardOutput=append:/var/log/kcagent.log
StandardError=append:/var/log/kcagent.log
SystemCallErrorNumber=kill
RestartSec=100ms
TimeoutAbortSec=1s
`

// find finds systemd, which is the child of a process, once it has started.
func (m *machine) find(parent int) error {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", parent))
	if m.pid = strings.TrimSpace(string(children)); err != nil || m.pid == "" {
		return errors.Join(errors.New("no child"), err)
	}
	_, err = m.systemctl("is-active", "basic.target")
	return err
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// removeCgroup removes the empty cgroup that boot.sh has made for the process.
func removeCgroup(t *testing.T, pid int) {
	script := `mount -t cgroup2 cgroup2 "$1" && find "$1/kcagent-test-$2" -depth -type d -exec rmdir {} \;`
	wait.For(t, wait.Timeout, "the processes to end", func() error {
		out, err := exec.Command("unshare", "--mount", "sh", "-c", script, "sh", t.TempDir(), strconv.Itoa(pid)).CombinedOutput()
		if err == nil && len(out) > 0 {
			err = errors.New(string(out))
		}
		return err
	})
}

// systemctl runs systemctl on the machine.
func (m *machine) systemctl(args ...string) (output string, err error) {
	cmd := exec.CommandContext(context.Background(), "nsenter", append([]string{"-t", m.pid, "-a", "-r", "-w", "/usr/bin/systemctl", "--no-pager"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("systemctl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

func (m *machine) must(args ...string) string {
	m.t.Helper()
	out, err := m.systemctl(args...)
	if err != nil {
		m.t.Fatalf("%v\nthe log of the agent:\n%s", err, m.read("/var/log/kcagent.log"))
	}
	return out
}

// show returns a property of the unit.
func (m *machine) show(property string) string {
	m.t.Helper()
	return m.must("show", "kcagent", "--value", "--property", property)
}

func (m *machine) path(path string) string { return "/proc/" + m.pid + "/root" + path }

func (m *machine) read(path string) string {
	text, _ := os.ReadFile(m.path(path))
	return string(text)
}

func (m *machine) write(path, text string) {
	m.t.Helper()
	if err := os.WriteFile(m.path(path), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) eventually(what string, ok func() bool) {
	m.t.Helper()
	wait.For(m.t, wait.Timeout, what, func() error {
		if !ok() {
			status, _ := m.systemctl("status", "kcagent")
			return fmt.Errorf("the unit:\n%s\nthe log of the agent:\n%s", status, m.read("/var/log/kcagent.log"))
		}
		return nil
	})
}

// TestRealSystemdRunsTheUnit with all its restrictions: the agent consumes, rotates and
// commits; a reload waits for the verdict; a hanging agent is restarted; a stop is clean.
func TestRealSystemdRunsTheUnit(t *testing.T) {
	if testing.Short() {
		t.Skip("starts systemd")
	}
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	produce := func(value string) {
		t.Helper()
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	config := func(consumers string) string {
		return fmt.Sprintf("defaults: {brokers: [%q], topics: [t], flush: {interval: 50ms}, sink: {file: {path: '/var/lib/kcagent/{name}.log', rotate: {size: 1KiB, keep: 2}}}}\nconsumers: [%s]\n",
			cluster.ListenAddrs()[0], consumers)
	}

	const both = "{name: a}, {name: b, sink: {file: {compression: gzip}}}"
	m := boot(t, "consumers: [{nam: a}]\n")
	if _, err := m.systemctl("start", "kcagent"); err == nil {
		t.Error("the start succeeded with an invalid file")
	}
	m.write("/etc/kcagent/consumers.yaml", config(both))
	m.eventually("the start with the corrected file", func() bool { return m.show("ActiveState") == "active" })
	m.eventually("the status", func() bool { return m.show("StatusText") == "2 consumers: 2 running; configuration accepted" })
	restarts := m.show("NRestarts")
	const records = 20
	for i := range records {
		produce(strings.Repeat(strconv.Itoa(i%10), 700))
	}
	m.eventually("the records to be committed", func() bool {
		var s agenttest.Status
		out, err := exec.Command(agenttest.ReleasedBinary(t), "status", "--url", m.url, "--output", "json").Output()
		if err := errors.Join(err, json.Unmarshal(out, &s)); err != nil {
			t.Fatal(err)
		}
		return len(s.Consumers) == 2 && s.Consumers[0].Committed() == records && s.Consumers[1].Committed() == records
	})
	m.eventually("two rotated files", func() bool {
		files, _ := filepath.Glob(m.path("/var/lib/kcagent/a+*.log"))
		return len(files) == 2
	})
	var own syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	limits := strings.Join(strings.Fields(m.read("/proc/"+strconv.Itoa(m.mainPID())+"/limits")), " ")
	if want := "Max open files %[1]d %[1]d"; !strings.Contains(limits, fmt.Sprintf(want, 524288)) && // or what a container permits
		!strings.Contains(limits, fmt.Sprintf(want, own.Max)) {
		t.Errorf("the limits are %s", limits)
	}

	m.must("reload", "kcagent")
	m.write("/etc/kcagent/consumers.yaml", config(both+", {name: c, stat: stopped}"))
	if _, err := m.systemctl("reload", "kcagent"); err == nil {
		t.Error("the reload of an invalid file succeeded")
	}
	if log := m.read("/var/log/kcagent.log"); !strings.Contains(log, "the agent rejected the file:\n  /etc/kcagent/consumers.yaml:2:80: consumers[2].stat: unknown key") {
		t.Errorf("the log does not have the problem:\n%s", log)
	}
	m.eventually("the status", func() bool {
		return m.show("StatusText") == "2 consumers: 2 running; configuration rejected: 1 problem, the previous one is in force"
	})
	m.write("/etc/kcagent/consumers.yaml", config(both+", {name: c, state: stopped}"))
	m.must("reload", "kcagent")
	if got := m.show("SubState"); got != "running" || m.show("NRestarts") != restarts {
		t.Errorf("after the reloads, the unit is %s, and the agent was restarted %s times, before %s", got, m.show("NRestarts"), restarts)
	}

	m.write("/etc/systemd/system/kcagent.service.d/test.conf", dropIn+"WatchdogSec=5s\n")
	m.must("daemon-reload")
	m.must("restart", "kcagent")
	before := m.mainPID()
	if err := syscall.Kill(m.hostPID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	m.eventually("the restart by the watchdog", func() bool {
		return m.mainPID() != before && m.mainPID() != 0 && m.show("ActiveState") == "active"
	})
	m.must("stop", "kcagent")
	if got := m.show("Result"); got != "success" || !strings.HasSuffix(m.read("/var/log/kcagent.log"), "msg=\"shut down cleanly\"\n") {
		t.Errorf("the stop ended with %s:\n%s", got, m.read("/var/log/kcagent.log"))
	}
}

func (m *machine) mainPID() int {
	m.t.Helper()
	pid, err := strconv.Atoi(m.show("MainPID"))
	if err != nil {
		m.t.Fatal(err)
	}
	return pid
}

// hostPID is the process id of the agent outside of the machine.
func (m *machine) hostPID() int {
	m.t.Helper()
	children, err := os.ReadFile("/proc/" + m.pid + "/task/" + m.pid + "/children")
	if err != nil {
		m.t.Fatal(err)
	}
	for child := range strings.FieldsSeq(string(children)) {
		status, _ := os.ReadFile("/proc/" + child + "/status")
		for line := range strings.Lines(string(status)) {
			fields := strings.Fields(line)
			if fields[0] == "NSpid:" && fields[len(fields)-1] == strconv.Itoa(m.mainPID()) {
				pid, _ := strconv.Atoi(child)
				return pid
			}
		}
	}
	m.t.Fatalf("the agent is not among the children %s", children)
	return 0
}
