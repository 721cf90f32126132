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
	token   func(n int) string // the nth
	asked   atomic.Int32
	refuses atomic.Bool
	form    atomic.Pointer[url.Values] // of the last question
}

// newTokenServer makes one whose tokens live for as many seconds; if that is 0,
// it does not tell.
func newTokenServer(t *testing.T, lives int) *tokenServer {
	t.Helper()
	s := &tokenServer{token: func(n int) string { return strings.Repeat("t", n) }}
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
		answer := map[string]any{"access_token": s.token(int(n)), "token_type": "Bearer"}
		if lives > 0 {
			answer["expires_in"] = lives
		}
		_ = json.NewEncoder(w).Encode(answer)
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

// TestGoodTokenOutlivesItsServer: it is used until its end while the server fails
// to replace it, and no longer.
func TestGoodTokenOutlivesItsServer(t *testing.T) {
	s := newTokenServer(t, 3600)
	k := s.tokens(t, "top-secret")
	if _, err := k.Token(); err != nil {
		t.Fatal(err)
	}
	s.refuses.Store(true)
	k.until = time.Now().Add(-time.Second)
	asked := s.asked.Load()
	for range 2 {
		if token, err := k.Token(); err != nil || token.Token != "t" {
			t.Errorf("the token is %v, %v", token, err)
		}
	}
	if n := s.asked.Load() - asked; n < 1 || n > 2 { // by header, then by form
		t.Errorf("the server was asked %d times", n)
	}
	k.now.Expiry = time.Now().Add(-time.Second)
	if _, err := k.Token(); err == nil || !strings.Contains(err.Error(), "invalid_client") {
		t.Errorf("after its end the error is %v", err)
	}
	s.refuses.Store(false)
	k.retry = time.Time{}
	if token, err := k.Token(); err != nil || token.Token == "t" {
		t.Errorf("once the server is back the token is %v, %v", token, err)
	}
}

// jwt is a token that says of itself when it ends.
func jwt(exp any) string {
	payload, _ := json.Marshal(map[string]any{"sub": "reader", "exp": exp})
	return "e30." + base64.RawURLEncoding.EncodeToString(payload) + ".c2lnbmF0dXJl"
}

// TestTokenSaysWhenItEnds: the server need not.
func TestTokenSaysWhenItEnds(t *testing.T) {
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	for text, want := range map[string]time.Time{
		"opaque":                            {},
		"a.b.c":                             {},
		"e30.e30.c2ln":                      {},
		jwt("soon"):                         {},
		jwt(end.Unix()):                     end,
		jwt(float64(end.UnixMilli()) / 1e3): end,
	} {
		if got := endOf(text); !got.Equal(want) {
			t.Errorf("%s ends at %v, want %v", text, got, want)
		}
		s := newTokenServer(t, 0)
		s.token = func(int) string { return text }
		k := s.tokens(t, "top-secret")
		if token, err := k.Token(); err != nil || token.Token != text {
			t.Fatalf("the token is %v, %v", token, err)
		}
		switch {
		case want.IsZero() && !k.until.IsZero():
			t.Errorf("%s is replaced at %v", text, k.until)
		case !want.IsZero() && !k.until.Equal(want.Add(-tokenSpare)):
			t.Errorf("%s is replaced at %v, and ends at %v", text, k.until, want)
		}
	}
}

// TestTokenThatHasEndedByTheClockHere is used, for that clock may be wrong, and
// does not have the server asked for each connection.
func TestTokenThatHasEndedByTheClockHere(t *testing.T) {
	s := newTokenServer(t, 0)
	s.token = func(int) string { return jwt(time.Now().Add(-time.Hour).Unix()) }
	k := s.tokens(t, "top-secret")
	for range 3 {
		if _, err := k.Token(); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.asked.Load(); n != 1 || time.Until(k.until) > tokenPause {
		t.Errorf("the server was asked %d times, and will be in %v", n, time.Until(k.until))
	}
}

// TestRefusedTokens: the error says who refused what, in one line and without the
// secret, and nobody asks again at once.
func TestRefusedTokens(t *testing.T) {
	s := newTokenServer(t, 3600)
	k := s.tokens(t, "wrong-secret")
	_, err := k.Token()
	const want = ": 401 Unauthorized: invalid_client: no such client"
	if err == nil || !strings.Contains(err.Error(), "get a token from "+s.URL+want) || !loginRejected(err) || strings.Contains(err.Error(), "wrong-secret") {
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

// TestRedirectsOfTokenServers are not followed: the secret would go along, or the
// question be lost on the way.
func TestRedirectsOfTokenServers(t *testing.T) {
	s := newTokenServer(t, 3600)
	for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
		old := httptest.NewServer(http.RedirectHandler(s.URL+"/new?state=x", status))
		t.Cleanup(old.Close)
		k, err := newTokens(config.SASL{Mechanism: config.OAuthBearer, OAuth: &config.OAuth{
			TokenURL: old.URL, ClientID: "reader", ClientSecret: config.NewSecret("top-secret"),
		}})
		if err != nil {
			t.Fatal(err)
		}
		want := ": it redirects to " + s.URL + "/new, which is not followed: name the right one in sasl.oauth.token_url"
		if _, err := k.Token(); err == nil || !strings.Contains(err.Error(), want) || s.asked.Load() > 0 {
			t.Errorf("with %d the error is %v, and the other one was asked %d times", status, err, s.asked.Load())
		}
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
		case want == "" && (err == nil || !strings.Contains(err.Error(), "file is empty")):
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
	if _, err := k.Token(); err == nil || !loginRejected(err) || !strings.Contains(err.Error(), "sign a token with AWS credentials") {
		t.Errorf("without credentials the error is %v", err)
	}
}
