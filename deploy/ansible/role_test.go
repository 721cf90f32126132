package ansible

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRoleReportsWrongVariables: each host has another wrong variable, and fails before
// anything else with an error that names it.
func TestRoleReportsWrongVariables(t *testing.T) {
	t.Parallel()
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
	}
	r := newRollout(t, "none")
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
	if strings.Contains(output, filePassword) {
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
