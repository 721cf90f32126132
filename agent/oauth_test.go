package agent

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kcagent/config"
)

// A tokenServer gives tokens that live for a while, or refuses.
type tokenServer struct {
	*httptest.Server
	asked   atomic.Int32
	refuses atomic.Bool
	form    atomic.Pointer[url.Values] // of the last question
}

func newTokenServer(t *testing.T, lives int) *tokenServer {
	t.Helper()
	s := &tokenServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := s.asked.Add(1)
		_ = r.ParseForm()
		s.form.Store(&r.PostForm)
		id, secret, _ := r.BasicAuth()
		w.Header().Set("Content-Type", "application/json")
		if s.refuses.Load() || id != "reader" || secret != "top-secret" {
			w.WriteHeader(http.StatusUnauthorized)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_client", "error_description": "no such\nclient"})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": strings.Repeat("t", int(n)), "token_type": "Bearer", "expires_in": lives})
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *tokenServer) tokens(t *testing.T, secret string) *tokens {
	t.Helper()
	k, err := newTokens(config.SASL{Mechanism: config.OAuthBearer, OAuth: &config.OAuth{
		TokenURL: s.URL, ClientID: "reader", ClientSecret: config.NewSecret(secret), Scopes: []string{"kafka", "read"}, Audience: "brokers",
		Extensions: map[string]string{"logicalCluster": "lkc-1"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestTokenIsUsedAgain: until shortly before its end, however many connections
// there are.
func TestTokenIsUsedAgain(t *testing.T) {
	var s *tokenServer
	for _, lives := range []int{3600, 10} {
		s = newTokenServer(t, lives)
		k := s.tokens(t, "top-secret")
		for range 3 {
			token, err := k.Token()
			if err != nil {
				t.Fatal(err)
			}
			if token.Token != "t" || token.Extensions["logicalCluster"] != "lkc-1" {
				t.Errorf("the token is %+v", token)
			}
		}
		if n := s.asked.Load(); n != 1 {
			t.Errorf("the server was asked %d times for tokens that live %d s", n, lives)
		}
	}
	if f := *s.form.Load(); f.Get("grant_type") != "client_credentials" || f.Get("scope") != "kafka read" || f.Get("audience") != "brokers" {
		t.Errorf("it was asked for %v", f)
	}
}

// TestOldTokenIsReplaced: one that ends soon is not shown to a broker any more.
func TestOldTokenIsReplaced(t *testing.T) {
	s := newTokenServer(t, 3600)
	k := s.tokens(t, "top-secret")
	if _, err := k.Token(); err != nil {
		t.Fatal(err)
	}
	if spare := k.now.Expiry.Sub(k.until); spare != tokenSpare {
		t.Errorf("it is to be replaced %v before its end", spare)
	}
	k.until = time.Now().Add(-time.Second)
	token, err := k.Token()
	if err != nil || token.Token != "tt" {
		t.Errorf("the token is %v, %v", token, err)
	}
}

// TestRefusedTokens: the error says who refused what, in one line and without the
// secret, and nobody asks again at once.
func TestRefusedTokens(t *testing.T) {
	s := newTokenServer(t, 3600)
	k := s.tokens(t, "wrong-secret")
	_, err := k.Token()
	const want = ": 401 Unauthorized: invalid_client: no such client"
	if err == nil || !strings.Contains(err.Error(), "get a token from "+s.URL+want) || !refused(err) || strings.Contains(err.Error(), "wrong-secret") {
		t.Errorf("the error is %v", err)
	}
	asked := s.asked.Load()
	if _, again := k.Token(); again == nil || s.asked.Load() != asked {
		t.Errorf("the server was asked again at once: %v", again)
	}
	s.Close()
	if _, err := s.tokens(t, "top-secret").Token(); err == nil || !strings.Contains(err.Error(), "get a token from "+s.URL) {
		t.Errorf("without a server the error is %v", err)
	}
}

func TestTokenFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	sasl := config.SASL{Mechanism: config.OAuthBearer, OAuth: &config.OAuth{TokenFile: path}}
	if _, err := newTokens(sasl); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("without the file the error is %v", err)
	}
	for text, want := range map[string]string{"\n": "", "abc\n": "abc"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := newTokens(sasl)
		switch {
		case want == "" && (err == nil || !strings.Contains(err.Error(), "it is empty")):
			t.Errorf("an empty file is %v", err)
		case want != "":
			if token, err := k.Token(); err != nil || token.Token != want {
				t.Errorf("the token is %v, %v", token, err)
			}
		}
	}
}

// TestSignedToken: what MSK gets is the address of a request to its
// kafka-cluster:Connect, signed for the region with the credentials found.
func TestSignedToken(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "very-secret", "AWS_SESSION_TOKEN": "session",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	sasl := config.SASL{Mechanism: config.MSKIAM, AWS: &config.AWS{Region: "eu-west-1"}}
	k, err := newTokens(sasl)
	if err != nil {
		t.Fatal(err)
	}
	token, err := k.Token()
	if err != nil {
		t.Fatal(err)
	}
	text, err := base64.RawURLEncoding.DecodeString(token.Token)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if u.Host != "kafka.eu-west-1.amazonaws.com" || q.Get("Action") != "kafka-cluster:Connect" || q.Get("X-Amz-Signature") == "" ||
		!strings.HasPrefix(q.Get("X-Amz-Credential"), "AKIDEXAMPLE/") || strings.Contains(string(text), "very-secret") {
		t.Errorf("the token is %s", text)
	}
	if again, err := k.Token(); err != nil || again.Token != token.Token {
		t.Error("a second connection has another token")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	k, _ = newTokens(sasl)
	if _, err := k.Token(); err == nil || !refused(err) || !strings.Contains(err.Error(), "sign a token with AWS credentials") {
		t.Errorf("without credentials the error is %v", err)
	}
}
