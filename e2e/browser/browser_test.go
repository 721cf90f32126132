package browser

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestFaultsAreRecorded: a test of a page fails if the page violates its policy, throws, logs
// an error, or makes a request to another host.
func TestFaultsAreRecorded(t *testing.T) {
	for name, c := range map[string]struct{ policy, body, want string }{
		"policy":    {"default-src 'none'", "<script>1</script>", "Content Security Policy"},
		"exception": {"", "<script>throw new Error('broken')</script>", "broken"},
		"console":   {"", "<script>console.error('bad')</script>", "bad"},
		"host":      {"", "<img src='http://localhost:1/x.png'>", "request to http://localhost:1/x.png"},
		"missing":   {"", "<img src='missing.png'>", "404"},
	} {
		t.Run(name, func(t *testing.T) {
			site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					http.NotFound(w, r)
					return
				}
				w.Header().Set("Content-Type", "text/html")
				w.Header().Set("Content-Security-Policy", c.policy)
				_, _ = io.WriteString(w, "<link rel=icon href=data:,>"+c.body) // fails if the browser has gone
			}))
			t.Cleanup(site.Close) // after the browser
			b := Open(t, Options{})
			b.Goto(site.URL + "/")
			b.Wait("the page", `document.readyState === "complete"`)
			b.mu.Lock()
			faults := strings.Join(b.faults, "\n")
			b.faults = nil
			b.mu.Unlock()
			if !strings.Contains(faults, c.want) {
				t.Errorf("the faults are %q, want one with %q", faults, c.want)
			}
		})
	}
}
