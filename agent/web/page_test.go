package web

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// TestPageIsSelfContained: the page may run nothing but its own script, loads nothing from
// elsewhere, and uses only fields that /status has.
func TestPageIsSelfContained(t *testing.T) {
	a := newAPITest(t)
	a.publish("  - {name: a}", nil)
	h := a.Handler()
	resp, body := get(t, h, http.MethodGet, "/")
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("%s %s", resp.Status, resp.Header)
	}
	policy := resp.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Count(policy, "'sha256-") != 2 {
		t.Errorf("the policy is %q", policy)
	}
	for _, foreign := range []string{"http:", "https:", "innerHTML", "onclick", " style="} {
		if strings.Contains(body, foreign) {
			t.Errorf("the page has %q", foreign)
		}
	}
	for _, method := range []string{"POST", "DELETE"} {
		if resp, _ := get(t, h, method, "/"); resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
	_, text := get(t, h, http.MethodGet, "/status")
	var status struct {
		Agent, Config map[string]any
		Consumers     []map[string]any
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		t.Fatal(err)
	}
	for object, has := range map[string]map[string]any{"s.agent": status.Agent, "s.config": status.Config, "c": status.Consumers[0]} {
		uses := regexp.MustCompile(`\b`+regexp.QuoteMeta(object)+`\.(\w+)`).FindAllStringSubmatch(body, -1)
		if len(uses) < 2 {
			t.Errorf("the page uses %d fields of %s", len(uses), object)
		}
		for _, use := range uses {
			if _, ok := has[use[1]]; !ok {
				t.Errorf("the page uses %s.%s, which /status has not", object, use[1])
			}
		}
	}
}
