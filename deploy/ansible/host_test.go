package ansible

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/process"
	"kcagent/e2e/wait"
)

// A host is a folder of this machine with the files of one kcagent, and its agent. Ansible
// reaches all hosts over a local connection.
type host struct {
	t      *testing.T
	name   string
	root   string // the folder that the host uses in place of /
	addr   string // of the HTTP API
	python string

	mu   sync.Mutex // the requests of the fake systemctl are on goroutines of their own
	proc *process.Process
	log  *os.File
}

func newHost(t *testing.T, name, python string) *host {
	t.Helper()
	h := &host{t: t, name: name, python: python, root: t.TempDir(), addr: fmt.Sprintf("127.0.0.1:%d", kafkatest.FreePort(t))}
	for _, dir := range []string{"usr/bin", "etc/default", "etc/systemd"} {
		if err := os.MkdirAll(h.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "agent.log"))
	if err != nil {
		t.Fatal(err)
	}
	h.log = log
	t.Cleanup(func() {
		h.stop()
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); err != nil || strings.Contains(string(text), "DATA RACE") {
			t.Errorf("the log of the agent on %s:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	return h
}

// path returns the path of a file of the host, such as "usr/bin/kcagent".
func (h *host) path(name string) string { return filepath.Join(h.root, name) }

// vars are the variables of the host in the inventory, together with more.
func (h *host) vars(more map[string]any) map[string]any {
	vars := map[string]any{
		"ansible_connection":         "local",
		"ansible_python_interpreter": h.python,
		"ansible_become":             false,
		// A password in the URL, which the agent does not require, must not be printed.
		"kcagent_url":           "http://admin:" + urlPassword + "@" + h.addr,
		"kcagent_install":       "none",
		"kcagent_timeout":       "60s",
		"kcagent_owner":         fmt.Sprint(os.Getuid()),
		"kcagent_user":          fmt.Sprint(os.Getuid()),
		"kcagent_group":         fmt.Sprint(os.Getgid()),
		"kcagent_manage_user":   false,
		"kcagent_binary_path":   h.path("usr/bin/kcagent"),
		"kcagent_config_dir":    h.path("etc/kcagent"),
		"kcagent_data_dir":      h.path("var"),
		"kcagent_defaults_path": h.path("etc/default/kcagent"),
		"kcagent_unit_path":     h.path("etc/systemd/kcagent.service"),
	}
	for name, value := range more {
		vars[name] = value
	}
	return vars
}

// start starts the agent with the arguments and the environment of /etc/default/kcagent, as
// the unit does, and returns when it responds.
func (h *host) start() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	cmd := exec.Command("sh", "-c", `set -a && . "$1" && exec "$2" run --config "$3" $ARGS`, "sh",
		h.path("etc/default/kcagent"), h.path("usr/bin/kcagent"), h.path("etc/kcagent/consumers.yaml"))
	cmd.Stdout, cmd.Stderr = h.log, h.log
	proc, err := process.Start(cmd)
	if err != nil {
		return err
	}
	h.proc = proc
	wait.For(h.t, wait.Timeout, h.name+" to respond", func() error {
		resp, err := http.Get("http://" + h.addr + "/healthz")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	})
	return nil
}

func (h *host) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.proc != nil {
		h.proc.Stop(wait.Timeout)
		h.proc = nil
	}
}

func (h *host) status() (s agenttest.Status) {
	h.t.Helper()
	resp, err := http.Get("http://" + h.addr + "/status")
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		h.t.Fatal(err)
	}
	return s
}

// consumer returns a consumer, which must exist.
func (h *host) consumer(name string) agenttest.Consumer {
	h.t.Helper()
	c, ok := h.status().Consumer(name)
	if !ok {
		h.t.Fatalf("%s has no consumer %s", h.name, name)
	}
	return c
}

// identity is what an untouched consumer keeps.
func identity(c agenttest.Consumer) string {
	return fmt.Sprint(c.ID, c.MemberIDs, c.Generation, c.RebalancesTotal, c.RestartsTotal, c.CreatedAt)
}

// files returns the files of the host, apart from its data. The content of the binary is
// left out.
func (h *host) files() map[string]file {
	h.t.Helper()
	found := make(map[string]file)
	err := filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == h.path("var") {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var content []byte
		if d.Type().IsRegular() && info.Size() < 1<<20 {
			content, err = os.ReadFile(path)
		}
		found[path] = file{fmt.Sprint(info.Mode(), info.ModTime()), string(content)}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return found
}

// wantMode requires the permissions of a file.
func (h *host) wantMode(name string, mode fs.FileMode) {
	h.t.Helper()
	if info, err := os.Stat(h.path(name)); err != nil || info.Mode() != mode {
		h.t.Errorf("on %s, %s: %v, %v, want mode %v", h.name, name, info, err, mode)
	}
}

// install installs a kcagent without consumers, as something else than the role does.
func install(t *testing.T, h *host) {
	t.Helper()
	copyBinary(t, h.path("usr/bin/kcagent"), "")
	for _, dir := range []string{"etc/kcagent", "var"} {
		if err := os.MkdirAll(h.path(dir), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"etc/kcagent/consumers.yaml": "consumers: []\n",
		"etc/default/kcagent":        fmt.Sprintf("ARGS=\"--listen %s\"\nKAFKA_PASSWORD=%s\n", h.addr, envPassword),
	} {
		if err := os.WriteFile(h.path(name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

// A systemd records the calls of systemctl for one host, and starts its agent.
type systemd struct {
	host *host

	mu      sync.Mutex
	active  bool
	enabled bool
	calls   []string // that change something
}

// ServeHTTP runs systemctl with the arguments in the body.
func (s *systemd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	command, _, _ := strings.Cut(string(body), " ")
	switch command {
	case "show":
		state := map[bool]string{true: "active", false: "inactive"}[s.active]
		fmt.Fprintf(w, "LoadState=loaded\nActiveState=%s\n", state)
		return
	case "is-enabled":
		if !s.enabled {
			http.Error(w, "disabled", http.StatusNotFound)
			return
		}
		fmt.Fprintln(w, "enabled")
		return
	case "list-unit-files":
		return
	case "enable":
		s.enabled = true
	case "start", "restart":
		s.host.stop()
		if err := s.host.start(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		s.active = true
	}
	s.calls = append(s.calls, string(body))
}

// taken returns the calls since the last taken.
func (s *systemd) taken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := strings.Join(s.calls, ", ")
	s.calls = nil
	return calls
}
