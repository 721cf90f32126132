package testkit

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// A TokenServer is a token server that can be made to reject requests.
type TokenServer struct {
	*httptest.Server
	Token    func(n int) string // the token of request n
	Requests atomic.Int32
	Rejects  atomic.Bool
	Form     atomic.Pointer[url.Values] // of the last request
}

// NewTokenServer starts one whose tokens have this lifetime in seconds; if it is 0, the
// responses do not contain it.
func NewTokenServer(t *testing.T, lifetime int) *TokenServer {
	t.Helper()
	s := &TokenServer{Token: func(n int) string { return strings.Repeat("t", n) }}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := s.Requests.Add(1)
		_ = r.ParseForm()
		s.Form.Store(&r.PostForm)
		id, secret, _ := r.BasicAuth()
		w.Header().Set("Content-Type", "application/json")
		if s.Rejects.Load() || id != "reader" || secret != "top-secret" {
			w.WriteHeader(http.StatusUnauthorized)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_client", "error_description": "no such\nclient"})
			return
		}
		answer := map[string]any{"access_token": s.Token(int(n)), "token_type": "Bearer"}
		if lifetime > 0 {
			answer["expires_in"] = lifetime
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(s.Close)
	return s
}
