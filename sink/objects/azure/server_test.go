package azure

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"kcagent/sink"
	"kcagent/sink/objects/store"
)

// The servers of these tests respond as Microsoft's documentation says. The emulator has no roles
// and no identities.

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server
}

// failWith returns a handler that rejects each request.
func failWith(status int, code, message, detail string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if code != "" {
			w.Header().Set("X-Ms-Error-Code", code)
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method == http.MethodHead {
			return
		}
		fmt.Fprintf(w, "\ufeff<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code><Message>%s\nRequestId:0f3c1a2b-901e-0012-4455-aabbccddeeff\nTime:2026-11-28T05:00:00.1234567Z</Message>%s</Error>", code, message, detail)
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
	const (
		mismatch = "AuthorizationPermissionMismatch"
		denied   = "This request is not authorized to perform this operation using this permission."
		owner    = " to the owner of the Azure credentials"
		failed   = "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature."
		expired  = "<AuthenticationErrorDetail>Signature not valid in the specified time frame: Start [Mon, 01 Jan 2024 00:00:00 GMT] - Expiry [Tue, 02 Jan 2024 00:00:00 GMT] - Current [Sat, 28 Nov 2026 05:00:00 GMT]</AuthenticationErrorDetail>"
		signed   = "<AuthenticationErrorDetail>The MAC signature found in the HTTP request 'geheim' is not the same as any computed signature.</AuthenticationErrorDetail>"
		token    = "<AuthenticationErrorDetail>Lifetime validation failed. The token is expired.</AuthenticationErrorDetail>"
	)
	for _, c := range []struct {
		name                  string
		status                int
		code, message, detail string
		call                  func(*Store) error
		want                  string
		permission            string // "-" if the error is not about permissions
	}{
		{"write", 403, mismatch, denied, "", put, "upload az://c/p/k: access denied; grant " + blobs + "write" + owner, blobs + "write"},
		{"look up", 403, mismatch, denied, "", head, "look up az://c/p/k: access denied; grant " + blobs + "read" + owner, blobs + "read"},
		{"read", 403, mismatch, denied, "", get, "read az://c/p/k: access denied; grant " + blobs + "read" + owner, blobs + "read"},
		{"delete", 403, mismatch, denied, "", del, "delete az://c/p/k: access denied; grant " + blobs + "delete" + owner, blobs + "delete"},
		{"list", 403, mismatch, denied, "", list, "list az://c/p/k: access denied; grant " + blobs + "read" + owner, blobs + "read"},
		{"network rules", 403, "AuthorizationFailure", "This request is not authorized to perform this operation.", "", put, "upload az://c/p/k: access denied (AuthorizationFailure); allow this host in the network rules of the account, and check the Azure credentials", blobs + "write"},
		{"wrong key", 403, "AuthenticationFailed", failed, signed, put, "upload az://c/p/k: the credentials are invalid or have expired; check the Azure credentials", ""},
		{"expired signature", 403, "AuthenticationFailed", failed, expired, put, "upload az://c/p/k: the credentials have expired; renew the Azure credentials", ""},
		{"expired token", 401, "InvalidAuthenticationInfo", failed, token, put, "upload az://c/p/k: the credentials have expired; renew the Azure credentials", ""},
		{"no key permitted", 403, "KeyBasedAuthenticationNotPermitted", "Key based authentication is not permitted on this storage account.", "", put, "upload az://c/p/k: the account does not permit its key; remove credentials.account_key_file, so that the Azure credentials are used", ""},
		{"no container", 404, "ContainerNotFound", "The specified container does not exist.", "", head, "look up az://c/p/k: container c does not exist; create it, or correct url", "-"},
		{"no container to list", 404, "ContainerNotFound", "The specified container does not exist.", "", list, "list az://c/p/k: container c does not exist; create it, or correct url", "-"},
		{"no object", 404, "BlobNotFound", "The specified blob does not exist.", "", head, "look up az://c/p/k: the object does not exist", "-"},
		{"existing object that the signature must not replace", 403, "UnauthorizedBlobOverwrite", "This request is not authorized to perform blob overwrites.", "", put, "upload az://c/p/k: the object exists already", "-"},
		{"rate", 503, "ServerBusy", "The server is busy.", "", put, "upload az://c/p/k: the store limits the rate of requests (ServerBusy)", "-"},
		{"lease", 412, "LeaseIdMissing", "There is currently a lease on the blob and no lease ID was specified in the request.", "", del, "delete az://c/p/k: the store responds with status 412: LeaseIdMissing: There is currently a lease on the blob and no lease ID was specified in the request.", "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, failWith(c.status, c.code, c.message, c.detail))
			s := openStore(t, sink.ObjectsSpec{URL: "az://c/p", Endpoint: server.URL, Credentials: sink.Credentials{SASTokenFile: "none"}})
			s.access = fixedAccess{}
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

// fixedAccess are credentials that do not change.
type fixedAccess struct{}

func (fixedAccess) authorize(*http.Request) error { return nil }
func (fixedAccess) reject()                       {}
func (fixedAccess) describe() string              { return "the Azure credentials" }

// TestResponseOfAnotherServer: a web server that responds to each request with a page has not stored
// an object.
func TestResponseOfAnotherServer(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "<html>Welcome</html>")
	})
	file := filepath.Join(t.TempDir(), "sas")
	if err := os.WriteFile(file, []byte("sv=1&sig=x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, sink.ObjectsSpec{URL: "az://c", Endpoint: server.URL, Credentials: sink.Credentials{SASTokenFile: file}})
	const want = "upload az://c/k: invalid response of the store: status 200 of an upload"
	for _, size := range []int{1, 300_000} {
		if err := s.Put(t.Context(), "k", strings.NewReader(strings.Repeat("x", size)), int64(size), store.Attributes{}); err == nil || err.Error() != want {
			t.Errorf("%d bytes: got %v, want %s", size, err, want)
		}
	}
}

// TestEndlessListFails: a list that does not end is an error, before it uses the memory of the agent.
func TestEndlessListFails(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<EnumerationResults><Blobs>")
		for more := "<Blob><Name>" + strings.Repeat("x", 1<<20) + "</Name></Blob>"; ; {
			if _, err := io.WriteString(w, more); err != nil {
				return
			}
		}
	})
	s := openStore(t, sink.ObjectsSpec{URL: "az://c", Endpoint: server.URL, Credentials: sink.Credentials{SASTokenFile: "none"}})
	s.access = fixedAccess{}
	for o, err := range s.List(t.Context(), "") {
		if err == nil || !strings.HasPrefix(err.Error(), "list az://c/: invalid response of the store: ") {
			t.Fatalf("got %v, %v", o, err)
		}
	}
}

// TestListThatRepeatsEnds: a store that returns the same page for ever is an error.
func TestListThatRepeatsEnds(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<EnumerationResults><NextMarker>same</NextMarker></EnumerationResults>")
	})
	s := openStore(t, sink.ObjectsSpec{URL: "az://c", Endpoint: server.URL, Credentials: sink.Credentials{SASTokenFile: "none"}})
	s.access = fixedAccess{}
	var last error
	for _, err := range s.List(t.Context(), "") {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), `does not continue after "same"`) {
		t.Errorf("got %v", last)
	}
}

func TestUnreachableStoreShowsNoSignature(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sas")
	writeFile(t, file, "sv=2021-12-02&sig=geheim")
	server := serve(t, nil)
	server.Close()
	s := openStore(t, sink.ObjectsSpec{URL: "az://c/p", Endpoint: server.URL, Credentials: sink.Credentials{SASTokenFile: file}})
	host := strings.TrimPrefix(server.URL, "http://")
	want := "look up az://c/p/k: connect to " + host + ": connect: connection refused"
	if _, err := s.Head(t.Context(), "k"); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// identity is a token service and a store that accepts one token.
type identity struct {
	*httptest.Server
	mu       sync.Mutex
	valid    string
	requests int
}

func newIdentity(t *testing.T) *identity {
	i := &identity{valid: "token-1"}
	i.Server = serve(t, func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		switch {
		case r.URL.Path == "/token":
			if r.Header.Get("X-Identity-Header") != "secret" || r.URL.Query().Get("resource") != "https://storage.azure.com" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			i.requests++
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":"3600","expires_on":"4102444800","resource":"https://storage.azure.com"}`, i.valid)
		case r.Header.Get("Authorization") != "Bearer "+i.valid:
			failWith(401, "InvalidAuthenticationInfo", "Server failed to authenticate the request.", "")(w, r)
		default:
			failWith(404, "BlobNotFound", "The specified blob does not exist.", "")(w, r)
		}
	})
	return i
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

// withoutEnvironment removes all settings of Azure from the environment until the test ends.
func withoutEnvironment(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE",
		"AZURE_TOKEN_CREDENTIALS", "AZURE_AUTHORITY_HOST", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "IMDS_ENDPOINT",
	} {
		t.Setenv(name, "") // restores it
		_ = os.Unsetenv(name)
	}
}

// TestManagedIdentity: one token serves many requests, and a rejection leads to another one.
func TestManagedIdentity(t *testing.T) {
	i := newIdentity(t)
	withoutEnvironment(t)
	t.Setenv("IDENTITY_ENDPOINT", i.URL+"/token")
	t.Setenv("IDENTITY_HEADER", "secret")
	s := openStore(t, sink.ObjectsSpec{URL: "az://c", Endpoint: i.URL, Credentials: sink.Credentials{SASTokenFile: "none"}})
	s.access = &chain{}
	s.access.reject() // the token of another run, which the library keeps for the process
	for range 3 {
		if !accepted(t, s) {
			t.Fatal("the token was rejected")
		}
	}
	if i.requests != 1 {
		t.Errorf("%d requests of tokens, want 1", i.requests)
	}
	i.mu.Lock()
	i.valid = "token-2"
	i.mu.Unlock()
	if accepted(t, s) || !accepted(t, s) {
		t.Error("want one rejection, then another token")
	}
}

// TestWorkloadIdentity: the chain sends the token of the pod to the authority of the environment.
func TestWorkloadIdentity(t *testing.T) {
	var form string
	authority := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/openid-configuration") {
			fmt.Fprintf(w, `{"token_endpoint":"https://%[1]s/t/oauth2/v2.0/token","authorization_endpoint":"https://%[1]s/t/a","issuer":"https://%[1]s/t"}`, r.Host)
			return
		}
		_ = r.ParseForm()
		form = r.PostForm.Get("client_id") + " " + strings.TrimSpace(r.PostForm.Get("client_assertion")) + " " + r.PostForm.Get("scope")
		if strings.HasPrefix(form, "client old ") {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":"invalid_client","error_description":"AADSTS700024: Client assertion is not within its valid time range. Trace ID: 0f3c1a2b-901e-0012-4455-aabbccddeeff Timestamp: 2026-11-28 05:00:00Z"}`)
			return
		}
		fmt.Fprint(w, `{"access_token":"token-1","token_type":"Bearer","expires_in":3600}`)
	}))
	defer authority.Close()
	i, file := newIdentity(t), filepath.Join(t.TempDir(), "token")
	withoutEnvironment(t)
	for name, value := range map[string]string{
		"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "client", "AZURE_FEDERATED_TOKEN_FILE": file, "AZURE_AUTHORITY_HOST": authority.URL,
	} {
		t.Setenv(name, value)
	}
	writeFile(t, file, "old")
	s := openStore(t, sink.ObjectsSpec{URL: "az://c", Endpoint: i.URL, Credentials: sink.Credentials{SASTokenFile: "none"}})
	s.access = &chain{transport: authority.Client()}
	_, err := s.Head(t.Context(), "k")
	if want := "look up az://c/k: get Azure credentials: AADSTS700024: Client assertion is not within its valid time range."; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	s.access.reject()
	writeFile(t, file, "new")
	if !accepted(t, s) {
		t.Error("the token was rejected")
	}
	if !strings.HasPrefix(form, "client new "+scope) {
		t.Errorf("the request for a token was %q", form)
	}
}

func TestInvalidSettings(t *testing.T) {
	for want, spec := range map[string]sink.ObjectsSpec{
		"invalid url: use az://container/prefix":                                                      {URL: "az://", Account: "a"},
		"account missing; set account, or endpoint":                                                   {URL: "az://c"},
		"invalid endpoint: use https://host or http://host:port/account":                              {URL: "az://c", Endpoint: "localhost:1"},
		"an endpoint without TLS requires credentials.account_key_file or credentials.sas_token_file": {URL: "az://c", Endpoint: "http://localhost:1/a"},
	} {
		if s, err := Open(t.Context(), &spec); err == nil || err.Error() != "open "+spec.URL+": "+want {
			t.Errorf("got %v, %v, want %s", s, err, want)
		}
	}
	if s := openStore(t, sink.ObjectsSpec{URL: "az://c/p", Account: "lake"}); s.access != defaultChain || s.objectURL("a b") != "https://lake.blob.core.windows.net/c/p/a%20b" {
		t.Errorf("the store of an account has %s and %T", s.objectURL("a b"), s.access)
	}
}

// TestCredentialFiles: a file that cannot be used is an error of credentials that names it.
func TestCredentialFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, "geheim!")
	for want, c := range map[string]sink.Credentials{
		"read credentials.account_key_file: " + file + " is not the key of an account: it is not Base64":            {AccountKeyFile: file},
		"read credentials.sas_token_file: " + file + " is not a shared access signature; write it as in sv=…&sig=…": {SASTokenFile: file},
		"read credentials.account_key_file: open /missing: no such file or directory":                               {AccountKeyFile: "/missing"},
	} {
		s := openStore(t, sink.ObjectsSpec{URL: "az://c", Endpoint: "http://127.0.0.1:1/a", Credentials: c})
		_, err := s.Head(t.Context(), "k")
		if denied, ok := errors.AsType[*store.PermissionError](err); !ok || denied.Permission != "" || err.Error() != "look up az://c/k: "+want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
