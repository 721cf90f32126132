package agent

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// A tokenServer is a token server that can be made to reject requests.
type tokenServer struct {
	*httptest.Server
	token    func(n int) string // the token of request n
	requests atomic.Int32
	rejects  atomic.Bool
	form     atomic.Pointer[url.Values] // of the last request
}

// newTokenServer starts one whose tokens have this lifetime in seconds; if it is 0, the
// responses do not contain it.
func newTokenServer(t *testing.T, lifetime int) *tokenServer {
	t.Helper()
	s := &tokenServer{token: func(n int) string { return strings.Repeat("t", n) }}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := s.requests.Add(1)
		_ = r.ParseForm()
		s.form.Store(&r.PostForm)
		id, secret, _ := r.BasicAuth()
		w.Header().Set("Content-Type", "application/json")
		if s.rejects.Load() || id != "reader" || secret != "top-secret" {
			w.WriteHeader(http.StatusUnauthorized)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_client", "error_description": "no such\nclient"})
			return
		}
		answer := map[string]any{"access_token": s.token(int(n)), "token_type": "Bearer"}
		if lifetime > 0 {
			answer["expires_in"] = lifetime
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(s.Close)
	return s
}
