package ansible

import (
	"encoding/json"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/tools"
)

// requireAnsible, set to 1, makes tests fail that would be skipped without Ansible. CI
// sets it.
const requireAnsible = "KCAGENT_REQUIRE_ANSIBLE"

// Secrets that must never be printed.
const (
	urlPassword  = "secret-of-the-url"
	filePassword = "secret-in-a-file"
	envPassword  = "secret-in-the-environment"
	yamlPassword = "secret-in-the-yaml"
)

// A rollout runs the playbook of examples on some hosts, and keeps what it prints.
type rollout struct {
	t        *testing.T
	commands string // the folder with Ansible's commands
	brokers  []string
	hosts    []*host
	// extra are the variables of single hosts, by name.
	extra   map[string]map[string]any
	systemd *systemd
	env     []string
	printed strings.Builder
}

func newRollout(t *testing.T, names ...string) *rollout {
	t.Helper()
	if testing.Short() {
		t.Skip("each playbook takes seconds")
	}
	r := &rollout{t: t, extra: make(map[string]map[string]any)}
	r.commands = tools.Python(t, requireAnsible, "ansible", "ansible-core>=2.15", "ansible-lint")
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "orders", "audit"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	r.brokers = cluster.ListenAddrs()
	for _, name := range names {
		r.hosts = append(r.hosts, newHost(t, name, filepath.Join(r.commands, "python3")))
	}
	bin := t.TempDir()
	r.env = append(os.Environ(), "HOME="+t.TempDir(), "ANSIBLE_HOME="+t.TempDir(), "PATH="+bin+":"+r.commands+":"+os.Getenv("PATH"),
		"ANSIBLE_NOCOLOR=1", "ANSIBLE_PIPELINING=1", "ANSIBLE_ROLES_PATH="+abs(t, "roles"), "LC_ALL=C.UTF-8")
	if len(names) > 0 {
		r.systemd = &systemd{host: r.hosts[0]}
		server := httptest.NewServer(r.systemd)
		t.Cleanup(server.Close)
		r.env = append(r.env, systemctlURL+"="+server.URL)
	}
	if err := os.Symlink(abs(t, os.Args[0]), filepath.Join(bin, "systemctl")); err != nil {
		t.Fatal(err)
	}
	return r
}

func abs(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// config is a configuration with some consumers. The first cluster is the one of the test;
// nothing uses the second one, which has secrets.
func (r *rollout) config(consumers ...map[string]any) map[string]any {
	login := func(password string) map[string]any {
		return map[string]any{"mechanism": "PLAIN", "username": "reader", "password": password}
	}
	for _, c := range consumers {
		c["sink"] = map[string]any{"file": map[string]any{"path": "{{ kcagent_data_dir }}/" + c["name"].(string) + ".log"}}
	}
	return map[string]any{
		"clusters": map[string]any{
			"main":  map[string]any{"brokers": r.brokers},
			"other": map[string]any{"brokers": []string{"127.0.0.1:1"}, "sasl": login(yamlPassword)},
			"third": map[string]any{"brokers": []string{"127.0.0.1:1"}, "sasl": login("${KAFKA_PASSWORD}")},
		},
		"defaults":  map[string]any{"cluster": "main", "instance_id": "{name}-{{ inventory_hostname }}", "group": "{name}-{{ inventory_hostname }}"},
		"consumers": append([]map[string]any{}, consumers...),
	}
}

// play runs the playbook of examples for all hosts with a configuration and flags.
func (r *rollout) play(config map[string]any, flags ...string) (output string, err error) {
	r.t.Helper()
	inventory := map[string]any{}
	for _, h := range r.hosts {
		vars := h.vars(r.extra[h.name])
		vars["kcagent_secrets"] = map[string]string{"kafka-password": filePassword}
		vars["kcagent_environment"] = map[string]string{"KAFKA_PASSWORD": envPassword}
		vars["kcagent_args"] = []string{"--listen", h.addr}
		if config != nil {
			vars["kcagent_config"] = config
		}
		maps.Copy(vars, r.extra[h.name])
		inventory[h.name] = vars
	}
	return r.playbook(filepath.Join("..", "..", "examples", "ansible", "deploy.yaml"), inventory, flags...)
}

// playbook runs a playbook on hosts with variables.
func (r *rollout) playbook(path string, hosts map[string]any, flags ...string) (output string, err error) {
	r.t.Helper()
	text, err := json.Marshal(map[string]any{"kcagent": map[string]any{"hosts": hosts}})
	if err != nil {
		r.t.Fatal(err)
	}
	inventory := filepath.Join(r.t.TempDir(), "inventory.json")
	if err := os.WriteFile(inventory, text, 0o600); err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(r.commands, "ansible-playbook"), append([]string{"-i", inventory, filepath.Base(path)}, flags...)...)
	cmd.Dir, cmd.Env = filepath.Dir(path), r.env
	out, err := cmd.CombinedOutput()
	r.printed.Write(out)
	r.t.Logf("%s: %v\n%s", strings.Join(cmd.Args[3:], " "), err, out)
	return string(out), err
}

// want requires each of the texts in the output of a playbook.
func want(t *testing.T, output string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(output, text) {
			t.Errorf("the output lacks %q", text)
		}
	}
}

// recap returns the result of each host, such as "first changed=1 failed=0, second …". Hosts
// on which nothing ran are missing.
func recap(output string) string {
	_, after, _ := strings.Cut(output, "PLAY RECAP")
	var hosts []string
	for line := range strings.Lines(after) {
		name, rest, ok := strings.Cut(line, " : ")
		if !ok {
			continue
		}
		kept := strings.TrimSpace(name)
		for _, field := range strings.Fields(rest) {
			if strings.HasPrefix(field, "changed=") || strings.HasPrefix(field, "failed=") {
				kept += " " + field
			}
		}
		hosts = append(hosts, kept)
	}
	return strings.Join(hosts, ", ")
}

// copyBinary puts kcagent to a path. With more at its end it is another file, which runs as
// before.
func copyBinary(t *testing.T, path, more string) {
	t.Helper()
	text, err := os.ReadFile(agenttest.ReleasedBinary(t))
	if err == nil {
		err = os.WriteFile(path, append(text, more...), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// step is a part of a test, which ends the test if it fails.
func (r *rollout) step(name string, f func(t *testing.T)) {
	r.t.Helper()
	outer := r.t
	ok := outer.Run(name, func(t *testing.T) {
		r.t = t
		defer func() { r.t = outer }()
		f(t)
	})
	if !ok {
		outer.FailNow()
	}
}

// succeed is play that must succeed, fail one that must not.
func (r *rollout) succeed(config map[string]any, flags ...string) (output string) {
	r.t.Helper()
	output, err := r.play(config, flags...)
	if err != nil {
		r.t.Fatal(err)
	}
	return output
}

func (r *rollout) fail(config map[string]any, flags ...string) (output string) {
	r.t.Helper()
	output, err := r.play(config, flags...)
	if err == nil {
		r.t.Fatal("the playbook succeeded")
	}
	return output
}

// wantCalls requires the calls of systemctl since the last wantCalls.
func (r *rollout) wantCalls(calls string) {
	r.t.Helper()
	if got := r.systemd.taken(); got != calls {
		r.t.Errorf("the calls of systemctl are %q, want %q", got, calls)
	}
}

// A file is the mode, the time and the content of a file of a host.
type file struct{ meta, content string }

// files returns the files of all hosts, apart from their data.
func (r *rollout) files() map[string]file {
	all := make(map[string]file)
	for _, h := range r.hosts {
		maps.Copy(all, h.files())
	}
	return all
}

// wantFiles requires that nothing has touched the files of any host.
func (r *rollout) wantFiles(before map[string]file) {
	r.t.Helper()
	if after := r.files(); !maps.Equal(before, after) {
		r.t.Errorf("the files are\n%v\nthey were\n%v", after, before)
	}
}

// wantContent requires that the files of all hosts have the same content as before.
func (r *rollout) wantContent(before map[string]file) {
	r.t.Helper()
	same := func(a, b file) bool { return a.content == b.content }
	if after := r.files(); !maps.EqualFunc(before, after, same) {
		r.t.Errorf("the files are\n%v\nthey were\n%v", after, before)
	}
}
