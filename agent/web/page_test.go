package web

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"kcagent/agent/consumer"
	"kcagent/config"
)

// TestPageHasContentBeforeItsScriptsRun: the rendered page has the state of the configuration, its
// problems, the summary and the consumers with their errors, by urgency and escaped.
func TestPageHasContentBeforeItsScriptsRun(t *testing.T) {
	a := newAPITest(t)
	a.publish("  - {name: a-runs}\n  - {name: b-fails}\n  - {name: c-stopped, state: stopped}\n  - {name: d-pending}", func(s *Snapshot) {
		shown := s.Rows[1].Consumer.(*shownConsumer)
		shown.State, shown.Fault = consumer.Failing, "open <script>alert(1)</script>: denied"
		reason := "topic not found"
		s.Rows[3].Pending = &PendingChange{Action: "replace", Fields: []string{"group"}, Error: &reason}
		s.Reloads.Problems = config.Problems{{File: "consumers.yaml", Line: 7, Column: 5, Path: "consumers[0].topcs", Message: "unknown key", Hint: `did you mean "topics"?`}}
	})
	_, body := get(t, a.Handler(), http.MethodGet, "/")
	var names []string
	for _, m := range regexp.MustCompile(`class="name">([^<]*)<`).FindAllStringSubmatch(body, -1) {
		names = append(names, m[1])
	}
	if got := strings.Join(names, " "); got != "b-fails d-pending a-runs c-stopped" {
		t.Errorf("the order is %s", got)
	}
	for _, want := range []string{
		"<title>(rejected, 1 ERROR) kcagent", `href="assets/error.svg"`, "consumers.yaml:7:5", "consumers[0].topcs", "did you mean",
		"stays in force", "ERROR <b>1</b>", "RUNNING <b>2</b>", "open &lt;script&gt;alert(1)&lt;/script&gt;: denied",
		"replace of group is pending: topic not found", "4 consumers",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
}

func TestRenderedContentIsBounded(t *testing.T) {
	a := newAPITest(t)
	var entries strings.Builder
	for i := range 3 * initialRows {
		fmt.Fprintf(&entries, "  - {name: c%03d}\n", i)
	}
	a.publish(entries.String(), nil)
	_, body := get(t, a.Handler(), http.MethodGet, "/")
	if n := strings.Count(body, `class="name"`); n != initialRows || !strings.Contains(body, "the first 100 of 300 consumers") {
		t.Errorf("the page shows %d consumers", n)
	}
}

// TestPageNamesTheConfigurationInForce: the sentence names one time, and does not say that a
// file is rejected and applied.
func TestPageNamesTheConfigurationInForce(t *testing.T) {
	at := time.Date(2026, 3, 4, 12, 3, 10, 0, time.UTC)
	for state, want := range map[string]string{
		"synced":   "The configuration applied at 2026-03-04 12:03:10 is in force.",
		"applying": "The configuration applied at 2026-03-04 12:03:10 is in force. Not every consumer has converged yet.",
		"rejected": "The file has problems. The configuration applied at 2026-03-04 12:03:10 stays in force.",
	} {
		s := Status{Config: ConfigStatus{State: state, AppliedAt: &at}}
		if got := s.pageContent().Config.Verdict(); got != want {
			t.Errorf("%s: %s", state, got)
		}
	}
	if got := (&Status{Config: ConfigStatus{State: "applying"}}).pageContent().Config.Verdict(); got != "No configuration is in force yet." {
		t.Error(got)
	}
}

// TestPageIsSelfContained: the page and its files load nothing from elsewhere, run nothing
// but the files, and assign no HTML.
func TestPageIsSelfContained(t *testing.T) {
	a := newAPITest(t)
	a.publish("  - {name: a}", nil)
	h := a.Handler()
	resp, body := get(t, h, http.MethodGet, "/")
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%s %s", resp.Status, resp.Header)
	}
	policy := resp.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy lacks %s: %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is %q", policy)
	}
	for _, ref := range regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(body, -1) {
		if strings.HasPrefix(ref[1], "/") || strings.Contains(ref[1], ":") {
			t.Errorf("%s is not relative to the page", ref[1])
		}
	}
	sources := map[string]string{"index.html": body}
	for _, file := range pageFiles(t) {
		_, sources[file] = get(t, h, http.MethodGet, "/assets/"+file)
	}
	for file, text := range sources {
		text = strings.ReplaceAll(text, `http://www.w3.org/2000/svg`, "") // a name, not an address
		for _, foreign := range []string{"http:", "https:", "//cdn", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "onclick=", " style=", "<style", "@import"} {
			if strings.Contains(text, foreign) {
				t.Errorf("%s has %q", file, foreign)
			}
		}
		for _, m := range regexp.MustCompile(`(?:from "\./|assets/)([a-z]+\.[a-z]+)"`).FindAllStringSubmatch(text, -1) {
			if resp, _ := get(t, h, http.MethodGet, "/assets/"+m[1]); resp.StatusCode != http.StatusOK {
				t.Errorf("%s loads %s: %s", file, m[1], resp.Status)
			}
		}
		if n := strings.Count(text, "\n"); file != "index.html" && n > 250 {
			t.Errorf("%s has %d lines: split it", file, n)
		}
	}
}

func pageFiles(t *testing.T) []string {
	t.Helper()
	paths, err := fs.Glob(os.DirFS("page/assets"), "*")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files: %v", err)
	}
	return paths
}

// TestAssetsAreCachedUntilTheyChange: the browser asks each time, and the agent sends a file
// again only if it has changed.
func TestAssetsAreCachedUntilTheyChange(t *testing.T) {
	a := newAPITest(t)
	h := a.Handler()
	types := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	for _, file := range pageFiles(t) {
		resp, _ := get(t, h, http.MethodGet, "/assets/"+file)
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != types[path.Ext(file)] {
			t.Errorf("%s: %s %s", file, resp.Status, got)
		}
		if got := resp.Header.Get("Cache-Control"); got != "no-cache" {
			t.Errorf("%s: Cache-Control is %s", file, got)
		}
		req := httptest.NewRequest(http.MethodGet, "/assets/"+file, http.NoBody)
		req.Header.Set("If-None-Match", resp.Header.Get("ETag"))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != http.StatusNotModified || w.Body.Len() > 0 {
			t.Errorf("%s: status %d although it is unchanged", file, w.Code)
		}
	}
	for _, path := range []string{"/assets/", "/assets/nothing.js", "/assets/index.html"} {
		if resp, _ := get(t, h, http.MethodGet, path); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}
