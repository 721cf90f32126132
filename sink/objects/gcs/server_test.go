package gcs

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"kcagent/sink"
	"kcagent/sink/objects/store"
)

// The servers of these tests respond as Google's documentation says. The emulator knows no
// permissions and no credentials, and completes an upload that a client asks for.

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server
}

// failWith returns a handler that rejects each request.
func failWith(status int, reason, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
			"code": status, "message": message, "errors": []any{map[string]any{"domain": "global", "reason": reason, "message": message}},
		}})
	}
}

func TestErrorsNameCauseAndNextStep(t *testing.T) {
	put := func(s *Store) error {
		return s.Put(t.Context(), "k", strings.NewReader("x"), 1, store.Attributes{})
	}
	head := func(s *Store) error { _, err := s.Head(t.Context(), "k"); return err }
	get := func(s *Store) error { _, err := s.Open(t.Context(), "k"); return err }
	del := func(s *Store) error { return s.Delete(t.Context(), "k") }
	list := func(s *Store) (err error) {
		for _, err = range s.List(t.Context(), "k") {
			return err
		}
		return nil
	}
	const denied = "kcagent@lake.iam.gserviceaccount.com does not have storage.buckets.get access to the Google Cloud Storage bucket. Permission 'storage.buckets.get' denied on resource (or it may not exist)."
	for _, c := range []struct {
		name            string
		status          int
		reason, message string
		call            func(*Store) error
		want            string
		permission      string // "-" if the error is not about permissions
	}{
		{"create", 403, "forbidden", "access denied", put, "upload gs://b/p/k: access denied; grant storage.objects.create to the owner of credentials.service_account_file", "storage.objects.create"},
		{"get", 403, "forbidden", "access denied", head, "look up gs://b/p/k: access denied; grant storage.objects.get to the owner of credentials.service_account_file", "storage.objects.get"},
		{"read", 403, "forbidden", "access denied", get, "read gs://b/p/k: access denied; grant storage.objects.get to the owner of credentials.service_account_file", "storage.objects.get"},
		{"delete", 403, "forbidden", "access denied", del, "delete gs://b/p/k: access denied; grant storage.objects.delete to the owner of credentials.service_account_file", "storage.objects.delete"},
		{"list", 403, "forbidden", "access denied", list, "list gs://b/p/k: access denied; grant storage.objects.list to the owner of credentials.service_account_file", "storage.objects.list"},
		{"permission that the store names", 403, "forbidden", denied, put, "upload gs://b/p/k: access denied; grant storage.buckets.get to the owner of credentials.service_account_file", "storage.buckets.get"},
		{"rejected token", 401, "authError", "Invalid Credentials", put, "upload gs://b/p/k: the credentials are invalid or have expired; check credentials.service_account_file", ""},
		{"no bucket", 404, "notFound", "The specified bucket does not exist.", head, "look up gs://b/p/k: bucket b does not exist; create it, or correct url", "-"},
		{"no bucket to list", 404, "notFound", "The specified bucket does not exist.", list, "list gs://b/p/k: bucket b does not exist; create it, or correct url", "-"},
		{"no object", 404, "notFound", "No such object: b/p/k", head, "look up gs://b/p/k: the object does not exist", "-"},
		{"rate", 429, "rateLimitExceeded", "The object b/p/k exceeded the rate limit", put, "upload gs://b/p/k: the store limits the rate of requests (status 429)", "-"},
		{"billing", 403, "accountDisabled", "The billing account for the owning project is disabled in state absent", put, "upload gs://b/p/k: the store rejects the request for billing reasons: The billing account for the owning project is disabled in state absent", "-"},
		{"retention", 403, "retentionPolicyNotMet", "Object 'b/p/k' is subject to bucket's retention policy", del, "delete gs://b/p/k: the store responds with status 403: Object 'b/p/k' is subject to bucket's retention policy", "-"},
		{"defect of the store", 500, "backendError", "Backend\nError AAAAAAAAAAAAAAAAAAAAAAAA1", put, "upload gs://b/p/k: the store responds with status 500: Backend Error …", "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, failWith(c.status, c.reason, c.message))
			s := openStore(t, sink.ObjectsSpec{URL: "gs://b/p", Endpoint: server.URL})
			s.tokens = fixedTokens{}
			err := c.call(s)
			if err == nil || err.Error() != c.want {
				t.Fatalf("got  %v\nwant %s", err, c.want)
			}
			denied, ok := errors.AsType[*store.PermissionError](err)
			if ok != (c.permission != "-") || ok && denied.Permission != c.permission {
				t.Errorf("got the permission error %v, want %q", denied, c.permission)
			}
		})
	}
}

// fixedTokens are credentials that do not change.
type fixedTokens struct{}

func (fixedTokens) get(context.Context) (string, error) { return "token", nil }
func (fixedTokens) reject()                             {}
func (fixedTokens) describe() string                    { return "credentials.service_account_file" }

func TestUnreachableStore(t *testing.T) {
	server := serve(t, func(http.ResponseWriter, *http.Request) {})
	server.Close()
	s := openStore(t, sink.ObjectsSpec{URL: "gs://b/p", Endpoint: server.URL})
	host := strings.TrimPrefix(server.URL, "http://")
	want := "look up gs://b/p/k: connect to " + host + ": connect: connection refused"
	if _, err := s.Head(t.Context(), "k"); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestUploadContinuesAfterAnInterruption: the store keeps only a piece of a part, loses a response,
// or fails. The object is complete, and what the store has is not sent again.
func TestUploadContinuesAfterAnInterruption(t *testing.T) {
	content := make([]byte, 4*256<<10+77)
	_, _ = rand.Read(content)
	for name, interrupt := range map[string]func(w http.ResponseWriter, part int) bool{
		"part is kept in pieces": func(http.ResponseWriter, int) bool { return true },
		"status 503":             func(w http.ResponseWriter, _ int) bool { w.WriteHeader(503); return false },
		"connection is closed":   func(http.ResponseWriter, int) bool { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			u := &resumable{t: t, size: len(content), interrupt: interrupt}
			server := serve(t, u.ServeHTTP)
			u.url = server.URL
			s := openStore(t, sink.ObjectsSpec{URL: "gs://b", Endpoint: server.URL})
			if err := s.Put(t.Context(), "k", strings.NewReader(string(content)), int64(len(content)), store.Attributes{Meta: map[string]string{"kcagentfirst": "1"}}); err != nil {
				t.Fatal(err)
			}
			if string(u.received) != string(content) {
				t.Errorf("the store has %d bytes, want the %d of the object", len(u.received), len(content))
			}
			if u.description.Metadata["kcagentfirst"] != "1" || u.description.Name != "k" {
				t.Errorf("the object was described as %+v", u.description)
			}
		})
	}
}

// TestDroppedUploadIsReported: an upload that the store has forgotten is not a missing bucket.
func TestDroppedUploadIsReported(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Location", "http://"+r.Host+"/session")
			return
		}
		failWith(410, "", "gone")(w, r)
	})
	s := openStore(t, sink.ObjectsSpec{URL: "gs://b", Endpoint: server.URL})
	err := s.Put(t.Context(), "k", strings.NewReader(strings.Repeat("x", 300<<10)), 300<<10, store.Attributes{})
	if want := "upload gs://b/k: the store has dropped the unfinished upload; it begins again"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestResponseOfAnotherServer: a web server that responds to each request with a page has not stored
// an object.
func TestResponseOfAnotherServer(t *testing.T) {
	for page, want := range map[string]string{
		"<html>Welcome</html>": "upload gs://b/k: invalid response of the store: invalid character '<' looking for beginning of value",
		"{}":                   "upload gs://b/k: invalid response of the store: no object",
	} {
		server := serve(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, page)
		})
		s := openStore(t, sink.ObjectsSpec{URL: "gs://b", Endpoint: server.URL})
		if err := s.Put(t.Context(), "k", strings.NewReader("x"), 1, store.Attributes{}); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", page, err, want)
		}
	}
}

// TestEndlessResponseFails: a response that does not end is an error, before it uses the memory of the
// agent.
func TestEndlessResponseFails(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"name": "`)
		for more := strings.Repeat("x", 64<<10); ; {
			if _, err := io.WriteString(w, more); err != nil {
				return
			}
		}
	})
	s := openStore(t, sink.ObjectsSpec{URL: "gs://b", Endpoint: server.URL})
	if _, err := s.Head(t.Context(), "k"); err == nil || err.Error() != "look up gs://b/k: invalid response of the store: unexpected EOF" {
		t.Errorf("got %v", err)
	}
}

// TestListThatRepeatsEnds: a store that returns the same page for ever is an error.
func TestListThatRepeatsEnds(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"nextPageToken": "same"}`) })
	var last error
	for _, err := range openStore(t, sink.ObjectsSpec{URL: "gs://b", Endpoint: server.URL}).List(t.Context(), "") {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), `does not continue after "same"`) {
		t.Errorf("got %v", last)
	}
}

// TestOtherHostsGetNoCredentials: the store gives the URL of a resumable upload, which needs no
// credentials. If it leads to another host, that host does not get them.
func TestOtherHostsGetNoCredentials(t *testing.T) {
	var sent []string
	other := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		sent = append(sent, "other: "+r.Header.Get("Authorization"))
	})
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, "store: "+r.Header.Get("Authorization"))
		w.Header().Set("Location", other.URL+"/session")
	})
	s := openStore(t, sink.ObjectsSpec{URL: "gs://b", Endpoint: server.URL})
	s.tokens = fixedTokens{}
	if err := s.Put(t.Context(), "k", strings.NewReader(strings.Repeat("x", 300<<10)), 300<<10, store.Attributes{}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(sent, ", "); got != "store: Bearer token, other: " && got != "store: Bearer token, other: , other: " {
		t.Errorf("the hosts got %q", got)
	}
}

// resumable is a store that interrupts each part of an upload once.
type resumable struct {
	t         *testing.T
	url       string
	size      int
	interrupt func(w http.ResponseWriter, part int) (answer bool)

	mu          sync.Mutex
	description resource
	received    []byte
	parts       int
	interrupted bool // the last part
}

var contentRange = regexp.MustCompile(`^bytes (?:(\d+)-(\d+)|\*)/(\d+)$`)

func (u *resumable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r.Method == http.MethodPost {
		if r.URL.Query().Get("ifGenerationMatch") != "0" {
			u.t.Errorf("the upload replaces an object: %s", r.URL)
		}
		_ = json.NewDecoder(r.Body).Decode(&u.description)
		w.Header().Set("Location", u.url+"/session")
		return
	}
	found := contentRange.FindStringSubmatch(r.Header.Get("Content-Range"))
	if found == nil || found[3] != fmt.Sprint(u.size) {
		u.t.Errorf("Content-Range %q", r.Header.Get("Content-Range"))
		return
	}
	answer := true
	if found[1] != "" {
		if found[1] != fmt.Sprint(len(u.received)) {
			u.t.Errorf("a part begins at %s, and the store has %d bytes", found[1], len(u.received))
		}
		part, _ := io.ReadAll(r.Body)
		if u.interrupted = !u.interrupted; u.interrupted {
			u.parts++
			if len(u.received)+len(part) < u.size { // else the object is complete
				part = part[:len(part)/2]
			}
		}
		u.received = append(u.received, part...)
		if u.interrupted {
			answer = u.interrupt(w, u.parts)
		}
	}
	switch {
	case !answer:
	case len(u.received) == u.size:
		w.WriteHeader(http.StatusOK)
	default:
		if len(u.received) > 0 {
			w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", len(u.received)-1))
		}
		w.WriteHeader(http.StatusPermanentRedirect)
	}
}

// fakeGoogle is a token service and a store that accepts the tokens of one key.
type fakeGoogle struct {
	*httptest.Server
	mu       sync.Mutex
	valid    string // the only valid token
	requests int    // of tokens
}

func newGoogle(t *testing.T) *fakeGoogle {
	g := &fakeGoogle{valid: "token-1"}
	g.Server = serve(t, func(w http.ResponseWriter, r *http.Request) {
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

// accepted reports whether the store accepts the credentials.
func accepted(t *testing.T, s *Store) bool {
	t.Helper()
	_, err := s.Head(t.Context(), "k")
	denied, rejected := errors.AsType[*store.PermissionError](err)
	if !rejected && !errors.Is(err, store.ErrNotExist) || rejected && denied.Permission != "" {
		t.Fatal(err)
	}
	return !rejected
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
	if accepted(t, s) {
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
		if !accepted(t, s) {
			t.Error("the token was rejected")
		}
	}
	if g.requests != 1 {
		t.Errorf("%d requests of tokens, want 1", g.requests)
	}
	g.rotate("token-2")
	if accepted(t, s) || !accepted(t, s) {
		t.Error("want one rejection, then another token")
	}
	g.rotate("token-3")
	g.writeKey(t, file)
	if !accepted(t, s) {
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
			if accepted(t, s) {
				t.Fatal("an endpoint without TLS got default credentials")
			}
			s.tokens = &defaultTokens{}
			if !accepted(t, s) {
				t.Error("the token was rejected")
			}
			g.rotate("token-2")
			if accepted(t, s) || !accepted(t, s) {
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
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
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

func TestInvalidSettings(t *testing.T) {
	for want, spec := range map[string]sink.ObjectsSpec{
		"invalid url: use gs://bucket/prefix":                              {URL: "gs://"},
		"invalid endpoint: use http://host:port or https://host:port":      {URL: "gs://b", Endpoint: "localhost:1"},
		"objects of Google Cloud Storage have no tags; remove tags":        {URL: "gs://b", Tags: map[string]string{"a": "b"}},
		"read tls.ca_file: open /missing.pem: no such file or directory":   {URL: "gs://b", TLS: &sink.ObjectsTLS{CAFile: "/missing.pem"}},
		"read tls.ca_file /dev/null: no certificate found; use a PEM file": {URL: "gs://b", TLS: &sink.ObjectsTLS{CAFile: "/dev/null"}},
	} {
		if s, err := Open(t.Context(), &spec); err == nil || err.Error() != "open "+spec.URL+": "+want {
			t.Errorf("got %v, %v, want %s", s, err, want)
		}
	}
}
