package e2e

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
)

// wantNoSecret requires that no secret is in the log, in any page of the HTTP API or in
// the output of any command, also after mistakes around a secret in the file.
func wantNoSecret(t *testing.T, a *agenttest.Agent, secrets ...string) {
	t.Helper()
	outputs := map[string][]byte{"the log": []byte(a.Log())}
	for _, path := range []string{
		"/", "/status", "/status/plain", "/list-consumers", "/threads", "/config", "/metrics", "/healthz", "/readyz", "/status/nobody", "/debug/pprof/cmdline",
	} {
		if code, body := a.Get(path); code == http.StatusOK || code == http.StatusNotFound {
			outputs[path] = body
		} else {
			t.Errorf("%s answers with %d", path, code)
		}
	}
	broken := filepath.Join(filepath.Dir(a.Path), "broken.yaml")
	text, err := os.ReadFile(a.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, slip := range []string{"password: [inline-secret]", "pasword: inline-secret", "password: inline-secret: x", "password_file: x, password: inline-secret"} {
		if err := os.WriteFile(broken, bytes.Replace(text, []byte("password: inline-secret"), []byte(slip), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(agenttest.Binary(t), "validate", "--config", broken).CombinedOutput()
		if err == nil {
			t.Errorf("validate accepts %s", slip)
		}
		outputs["validate of "+slip] = out
	}
	for _, args := range []string{
		"validate", "validate --output json", "validate --online", "validate --online --output json", "plan --url " + a.URL, "plan --url  --output json", "plan --url " + a.URL + " --output json",
	} {
		cmd := exec.Command(agenttest.Binary(t), append(strings.Split(args, " "), "--config", a.Path)...)
		outputs[args], _ = cmd.CombinedOutput() // other tests check the exit code
	}
	for _, args := range []string{"status", "status --output json"} {
		outputs[args], _ = exec.Command(agenttest.Binary(t), append(strings.Split(args, " "), "--url", a.URL)...).CombinedOutput()
	}
	for name, text := range outputs {
		if len(text) == 0 {
			t.Errorf("%s has no output", name)
		}
		for _, secret := range secrets {
			if at := bytes.Index(text, []byte(secret)); at >= 0 {
				t.Errorf("%s shows a secret: …%s…", name, text[max(0, at-200):min(len(text), at+100)])
			}
		}
	}
}
