package login

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kcagent/agent/testkit"
	"kcagent/config"
)

func tokensOf(t *testing.T, s *testkit.TokenServer, secret string) *tokenSource {
	t.Helper()
	ts, err := newTokenSource(config.SASL{Mechanism: config.OAuthBearer, OAuth: &config.OAuth{
		TokenURL: s.URL, ClientID: "reader", ClientSecret: config.NewSecret(secret), Scopes: []string{"kafka", "read"}, Audience: "brokers",
		Extensions: map[string]string{"logicalCluster": "lkc-1"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

// TestTokenIsSharedByLogins: one token serves all logins.
func TestTokenIsSharedByLogins(t *testing.T) {
	var s *testkit.TokenServer
	for _, lifetime := range []int{3600, 10} {
		s = testkit.NewTokenServer(t, lifetime)
		ts := tokensOf(t, s, "top-secret")
		for range 3 {
			token, err := ts.Token()
			if err != nil {
				t.Fatal(err)
			}
			if token.Token != "t" || token.Extensions["logicalCluster"] != "lkc-1" {
				t.Errorf("the token is %+v", token)
			}
		}
		if n := s.Requests.Load(); n != 1 {
			t.Errorf("the server received %d requests for tokens that live %d s", n, lifetime)
		}
	}
	if f := *s.Form.Load(); f.Get("grant_type") != "client_credentials" || f.Get("scope") != "kafka read" || f.Get("audience") != "brokers" {
		t.Errorf("the request has the form %v", f)
	}
}

// TestTokenIsReplacedBeforeItExpires: a broker never receives a token that expires soon.
func TestTokenIsReplacedBeforeItExpires(t *testing.T) {
	s := testkit.NewTokenServer(t, 3600)
	ts := tokensOf(t, s, "top-secret")
	if _, err := ts.Token(); err != nil {
		t.Fatal(err)
	}
	if margin := ts.current.Expiry.Sub(ts.replaceAt); margin != tokenMargin {
		t.Errorf("the token is replaced %v before it expires", margin)
	}
	ts.replaceAt = time.Now().Add(-time.Second)
	token, err := ts.Token()
	if err != nil || token.Token != "tt" {
		t.Errorf("the token is %v, %v", token, err)
	}
}

// TestTokenIsUsedWhileItsServerFails: it is used until it expires, and no longer.
func TestTokenIsUsedWhileItsServerFails(t *testing.T) {
	s := testkit.NewTokenServer(t, 3600)
	ts := tokensOf(t, s, "top-secret")
	if _, err := ts.Token(); err != nil {
		t.Fatal(err)
	}
	s.Rejects.Store(true)
	ts.replaceAt = time.Now().Add(-time.Second)
	requests := s.Requests.Load()
	for range 2 {
		if token, err := ts.Token(); err != nil || token.Token != "t" {
			t.Errorf("the token is %v, %v", token, err)
		}
	}
	if n := s.Requests.Load() - requests; n < 1 || n > 2 { // by header, then by form
		t.Errorf("the server received %d requests", n)
	}
	ts.current.Expiry = time.Now().Add(-time.Second)
	if _, err := ts.Token(); err == nil || !strings.Contains(err.Error(), "invalid_client") {
		t.Errorf("after it expired the error is %v", err)
	}
	s.Rejects.Store(false)
	ts.retryAt = time.Time{}
	if token, err := ts.Token(); err != nil || token.Token == "t" {
		t.Errorf("once the server is back the token is %v, %v", token, err)
	}
}

// TestExpiryOfJWT: a JWT contains its expiry, so the server need not report it.
func TestExpiryOfJWT(t *testing.T) {
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	for text, want := range map[string]time.Time{
		"opaque":                {},
		"a.b.c":                 {},
		"e30.e30.c2ln":          {},
		testkit.JWT("soon"):     {},
		testkit.JWT(end.Unix()): end,
		testkit.JWT(float64(end.UnixMilli()) / 1e3): end,
	} {
		if got := ExpiryOf(text); !got.Equal(want) {
			t.Errorf("%s expires at %v, want %v", text, got, want)
		}
		s := testkit.NewTokenServer(t, 0)
		s.Token = func(int) string { return text }
		ts := tokensOf(t, s, "top-secret")
		if token, err := ts.Token(); err != nil || token.Token != text {
			t.Fatalf("the token is %v, %v", token, err)
		}
		switch {
		case want.IsZero() && !ts.replaceAt.IsZero():
			t.Errorf("%s is replaced at %v", text, ts.replaceAt)
		case !want.IsZero() && !ts.replaceAt.Equal(want.Add(-tokenMargin)):
			t.Errorf("%s is replaced at %v, and expires at %v", text, ts.replaceAt, want)
		}
	}
}

// TestTokenExpiredByTheLocalClockIsUsed: that clock may be wrong. The server does not receive
// a request for each login.
func TestTokenExpiredByTheLocalClockIsUsed(t *testing.T) {
	s := testkit.NewTokenServer(t, 0)
	s.Token = func(int) string { return testkit.JWT(time.Now().Add(-time.Hour).Unix()) }
	ts := tokensOf(t, s, "top-secret")
	for range 3 {
		if _, err := ts.Token(); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Requests.Load(); n != 1 || time.Until(ts.replaceAt) > tokenPause {
		t.Errorf("the server received %d requests, and the next one is due in %v", n, time.Until(ts.replaceAt))
	}
}

// TestRejectedTokenRequest: the error names the server and its response, in one line and
// without the secret. The request is not repeated at once.
func TestRejectedTokenRequest(t *testing.T) {
	s := testkit.NewTokenServer(t, 3600)
	ts := tokensOf(t, s, "wrong-secret")
	_, err := ts.Token()
	const want = ": 401 Unauthorized: invalid_client: no such client"
	if err == nil || !strings.Contains(err.Error(), "request token from "+s.URL+want) || !Rejected(err) || strings.Contains(err.Error(), "wrong-secret") {
		t.Errorf("the error is %v", err)
	}
	requests := s.Requests.Load()
	if _, again := ts.Token(); again == nil || s.Requests.Load() != requests {
		t.Errorf("the request was repeated at once: %v", again)
	}
	s.Close()
	if _, err := tokensOf(t, s, "top-secret").Token(); err == nil || !strings.Contains(err.Error(), "request token from "+s.URL) {
		t.Errorf("without a server the error is %v", err)
	}
}

// TestRedirectsOfTokenServersAreNotFollowed: the secret would be sent to the other server, or
// the request lose its body.
func TestRedirectsOfTokenServersAreNotFollowed(t *testing.T) {
	s := testkit.NewTokenServer(t, 3600)
	for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
		old := httptest.NewServer(http.RedirectHandler(s.URL+"/new?state=x", status))
		t.Cleanup(old.Close)
		ts, err := newTokenSource(config.SASL{Mechanism: config.OAuthBearer, OAuth: &config.OAuth{
			TokenURL: old.URL, ClientID: "reader", ClientSecret: config.NewSecret("top-secret"),
		}})
		if err != nil {
			t.Fatal(err)
		}
		want := ": it redirects to " + s.URL + "/new, which is not followed; set sasl.oauth.token_url to the final address"
		if _, err := ts.Token(); err == nil || !strings.Contains(err.Error(), want) || s.Requests.Load() > 0 {
			t.Errorf("with %d the error is %v, and the other server received %d requests", status, err, s.Requests.Load())
		}
	}
}

func TestTokenFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	sasl := config.SASL{Mechanism: config.OAuthBearer, OAuth: &config.OAuth{TokenFile: path}}
	if _, err := newTokenSource(sasl); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("without the file the error is %v", err)
	}
	for text, want := range map[string]string{"\n": "", "abc\n": "abc"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ts, err := newTokenSource(sasl)
		switch {
		case want == "" && (err == nil || !strings.Contains(err.Error(), "file is empty")):
			t.Errorf("an empty file is %v", err)
		case want != "":
			if token, err := ts.Token(); err != nil || token.Token != want {
				t.Errorf("the token is %v, %v", token, err)
			}
		}
	}
}

// TestSignedToken: the token for MSK is the URL of a request for kafka-cluster:Connect, signed
// for the region.
func TestSignedToken(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "very-secret", "AWS_SESSION_TOKEN": "session",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	sasl := config.SASL{Mechanism: config.MSKIAM, AWS: &config.AWS{Region: "eu-west-1"}}
	ts, err := newTokenSource(sasl)
	if err != nil {
		t.Fatal(err)
	}
	token, err := ts.Token()
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
	if again, err := ts.Token(); err != nil || again.Token != token.Token {
		t.Error("a second connection has another token")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	ts, _ = newTokenSource(sasl)
	if _, err := ts.Token(); err == nil || !Rejected(err) || !strings.Contains(err.Error(), "sign token with AWS credentials") {
		t.Errorf("without credentials the error is %v", err)
	}
}

// TestRejectedTokenIsDiscardedUnlessRecent: the successor of a token that was just obtained
// would be no better, and the server would receive a request for each login.
func TestRejectedTokenIsDiscardedUnlessRecent(t *testing.T) {
	s := testkit.NewTokenServer(t, 3600)
	ts := tokensOf(t, s, "top-secret")
	for _, c := range []struct {
		age      time.Duration
		requests int32
	}{
		{0, 1},
		{2 * tokenPause, 2},
	} {
		if _, err := ts.Token(); err != nil {
			t.Fatal(err)
		}
		ts.mu.Lock()
		ts.obtained = time.Now().Add(-c.age)
		ts.mu.Unlock()
		ts.discard()
		if _, err := ts.Token(); err != nil {
			t.Fatal(err)
		}
		if n := s.Requests.Load(); n != c.requests {
			t.Errorf("after a rejection at age %v, the server has received %d requests, want %d", c.age, n, c.requests)
		}
	}
}
