package gcs

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"kcagent/sink"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/store/storetest"
)

// fakeGoogle is a token service and a store that accepts the tokens of one key.
type fakeGoogle struct {
	*httptest.Server
	mu       sync.Mutex
	valid    string // the only valid token
	requests int    // of tokens
}

func newGoogle(t *testing.T) *fakeGoogle {
	g := &fakeGoogle{valid: "token-1"}
	g.Server = storetest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		switch {
		case r.URL.Path == "/token" || strings.HasPrefix(r.URL.Path, "/computeMetadata/"):
			g.requests++
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, g.valid)
		case r.Header.Get("Authorization") != "Bearer "+g.valid:
			failWith(401, "authError", "Invalid Credentials")(w, r)
		default:
			failWith(404, "notFound", "No such object")(w, r)
		}
	})
	return g
}

func (g *fakeGoogle) rotate(token string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.valid = token
}

// writeKey writes the JSON key of a service account.
func (g *fakeGoogle) writeKey(t *testing.T, file string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "kcagent@lake.iam.gserviceaccount.com", "private_key_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": g.URL + "/token",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestServiceAccountFile: one token serves many requests. A change of the file, and a rejection of
// the token, lead to another token without a restart.
func TestServiceAccountFile(t *testing.T) {
	g, file := newGoogle(t), filepath.Join(t.TempDir(), "key.json")
	s := openStore(t, sink.ObjectsSpec{URL: "gs://b", Endpoint: g.URL, Credentials: sink.Credentials{ServiceAccountFile: file}})
	_, err := s.Head(t.Context(), "k")
	if want := "look up gs://b/k: read credentials.service_account_file: open " + file + ": no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if storetest.Accepted(t, s) {
		t.Error("accepted without a file")
	}
	if err := os.WriteFile(file, []byte(`{"type":"authorized_user","client_secret":"geheim"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.Head(t.Context(), "k")
	if want := "look up gs://b/k: read credentials.service_account_file: " + file + " is not the JSON key of a service account"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	g.writeKey(t, file)
	for range 3 {
		if !storetest.Accepted(t, s) {
			t.Error("the token was rejected")
		}
	}
	if g.requests != 1 {
		t.Errorf("%d requests of tokens, want 1", g.requests)
	}
	g.rotate("token-2")
	if storetest.Accepted(t, s) || !storetest.Accepted(t, s) {
		t.Error("want one rejection, then another token")
	}
	g.rotate("token-3")
	g.writeKey(t, file)
	if !storetest.Accepted(t, s) {
		t.Error("the changed file was not read")
	}
}

// TestDefaultCredentials: the file of the environment, and without one the metadata server.
func TestDefaultCredentials(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, *fakeGoogle){
		"file": func(t *testing.T, g *fakeGoogle) {
			file := filepath.Join(t.TempDir(), "key.json")
			g.writeKey(t, file)
			t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
		},
		"metadata server": func(t *testing.T, g *fakeGoogle) {
			t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
			t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(g.URL, "http://"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOME", t.TempDir())
			g := newGoogle(t)
			prepare(t, g)
			s := openStore(t, sink.ObjectsSpec{URL: "gs://b", Endpoint: g.URL})
			if storetest.Accepted(t, s) {
				t.Fatal("an endpoint without TLS got default credentials")
			}
			s.tokens = &defaultTokens{}
			if !storetest.Accepted(t, s) {
				t.Error("the token was rejected")
			}
			g.rotate("token-2")
			if storetest.Accepted(t, s) || !storetest.Accepted(t, s) {
				t.Error("want one rejection, then another token")
			}
		})
	}
	if s := openStore(t, sink.ObjectsSpec{URL: "gs://b"}); s.tokens != applicationDefault {
		t.Error("the store of Google does not get the default credentials")
	}
}

// TestTokenServiceErrors: the cause is in the error, the response with the secret is not.
func TestTokenServiceErrors(t *testing.T) {
	server := storetest.Serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant","error_description":"Invalid JWT Signature.","assertion":"geheim"}`)
	})
	g, file := &fakeGoogle{Server: server}, filepath.Join(t.TempDir(), "key.json")
	g.writeKey(t, file)
	s := openStore(t, sink.ObjectsSpec{URL: "gs://b", Endpoint: server.URL, Credentials: sink.Credentials{ServiceAccountFile: file}})
	_, err := s.Head(t.Context(), "k")
	if want := "look up gs://b/k: get a token of Google: invalid_grant: Invalid JWT Signature."; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if denied, ok := errors.AsType[*store.PermissionError](err); !ok || denied.Permission != "" {
		t.Error("no error of credentials")
	}
}
