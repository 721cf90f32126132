package ansible

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
)

// TestRoleReportsWrongVariables: each host has another wrong variable, and fails with an error
// that names it, before anything is written.
func TestRoleReportsWrongVariables(t *testing.T) {
	t.Parallel()
	r := newRollout(t, "none", "installed")
	installed := r.hosts[1]
	install(t, installed)
	other := filepath.Join(t.TempDir(), "kcagent")
	copyBinary(t, other, "another build")
	noAgent := httptest.NewServer(http.NotFoundHandler())
	defer noAgent.Close()
	binary := func(path string, args ...string) map[string]any {
		return installed.vars(map[string]any{"kcagent_install": "binary", "kcagent_binary": path, "kcagent_args": args})
	}
	cases := map[string]struct {
		vars map[string]any
		want string
	}{
		"choice": {
			map[string]any{"kcagent_install": "rpm"},
			"value of kcagent_install must be one of: package, binary, none, got: rpm",
		},
		"type":    {map[string]any{"kcagent_rollback": "perhaps"}, "argument 'kcagent_rollback' is of type"},
		"typo":    {map[string]any{"kcagent_rolback": true}, "unknown variable kcagent_rolback: the prefix kcagent_ is for the variables of the role"},
		"both":    {map[string]any{"kcagent_config": map[string]any{"consumers": []any{}}, "kcagent_config_template": "a.j2"}, "kcagent_config cannot be combined with kcagent_config_template"},
		"blank":   {map[string]any{"kcagent_args": []string{"--listen 127.0.0.1:9000"}}, "invalid kcagent_args: an argument contains a blank"},
		"missing": {map[string]any{"kcagent_config": map[string]any{"consumers": []any{}}}, "kcagent not found at "},
		"path":    {map[string]any{"kcagent_secrets": map[string]string{"../passwd": filePassword}}, "invalid kcagent_secrets: a name is not a file name"},
		"name":    {map[string]any{"kcagent_environment": map[string]string{"A B": "x"}}, "invalid kcagent_environment: a name is not the name of a variable"},
		"number":  {map[string]any{"kcagent_timeout": 60}, `invalid kcagent_timeout \"60\": use a duration with a unit, such as 60s`},
		"words":   {map[string]any{"kcagent_timeout": "1 minute"}, `invalid kcagent_timeout \"1 minute\": use a duration`},
		"scheme":  {map[string]any{"kcagent_url": "127.0.0.1:8080"}, "invalid kcagent_url: use http:// or https://"},
		"address": {map[string]any{"kcagent_url": "http://admin:" + urlPassword + "@:8080"}, "invalid kcagent_url: use http:// or https://"},
		"flag":    {binary(agenttest.ReleasedBinary(t), "--lstn=1"), "invalid kcagent_args: unknown flag --lstn; did you mean --listen?"},
		"value":   {binary(agenttest.ReleasedBinary(t), "--listen", "9000"), `invalid kcagent_args: invalid --listen \"9000\"`},
		"upgrade": {binary(other, "--lstn=1"), "invalid kcagent_args: unknown flag --lstn; did you mean --listen?"},
		// Another program responds at the address, and the file has not changed.
		"page": {
			installed.vars(map[string]any{
				"kcagent_url": noAgent.URL, "kcagent_timeout": "1s", "kcagent_manage_service": false,
				"kcagent_config_template": installed.path("etc/kcagent/consumers.yaml"),
			}),
			`check that kcagent_url is the address of an agent, without the path of a page", "this run did not change the file"]`,
		},
	}
	before, hosts, recaps := r.files(), make(map[string]any), []string{}
	for name, c := range cases {
		hosts[name] = r.hosts[0].vars(c.vars)
		recaps = append(recaps, name+" changed=0 failed=1")
	}
	output, err := r.playbook(filepath.Join("testdata", "role.yaml"), hosts)
	if err == nil {
		t.Error("the playbook succeeded")
	}
	for name, c := range cases {
		found := false
		for line := range strings.Lines(output) {
			found = found || strings.HasPrefix(line, "fatal: ["+name+"]") && strings.Contains(line, c.want)
		}
		if !found {
			t.Errorf("the error of %s lacks %q", name, c.want)
		}
	}
	slices.Sort(recaps)
	want(t, recap(output), strings.Join(recaps, ", "))
	r.wantFiles(before)
	if strings.Contains(output, filePassword) || strings.Contains(output, urlPassword) {
		t.Error("the output has a secret")
	}
}

// TestRolePassesLint: ansible-lint with its strictest profile reports nothing for the
// role and the example.
func TestRolePassesLint(t *testing.T) {
	t.Parallel()
	r := newRollout(t)
	cmd := exec.Command(filepath.Join(r.commands, "ansible-lint"), "--offline", "--profile", "production", "--nocolor", "--strict",
		filepath.Join("roles", "kcagent"), filepath.Join("..", "..", "examples", "ansible", "deploy.yaml"))
	cmd.Env = r.env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("ansible-lint: %v\n%s", err, out)
	}
}
