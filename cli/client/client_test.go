package client

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestErrorsHidePasswords, whatever is wrong with the URL or the response.
func TestErrorsHidePasswords(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/status" {
			_, _ = w.Write([]byte("<html>"))
			return
		}
		http.NotFound(w, r)
	}))
	defer server.Close()
	good := strings.Replace(server.URL, "//", "//user:swordfish@", 1)
	for address, want := range map[string]string{
		"ftp://user:swordfish@host":         "invalid URL",
		"http://user:swordfish@host:port":   "invalid URL",
		"http://user:swordfish@127.0.0.1:1": "check that it runs",
		good + "/nowhere":                   "status 404",
		good:                                "not the response of an agent",
	} {
		c, err := New(address)
		if err == nil {
			err = c.Decode(t.Context(), "/status", new(struct{}))
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%s: got %v, want an error with %q and without the password", address, err, want)
		}
	}
}
