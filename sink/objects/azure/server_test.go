package azure

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/sink"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/store/storetest"
)

// The servers of these tests respond as Microsoft's documentation says. The emulator has no roles
// and no identities.

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
		call                  func(store.Store) error
		want                  string
		permission            string
	}{
		{"write", 403, mismatch, denied, "", storetest.CallPut, "upload az://c/p/k: access denied; grant " + blobs + "write" + owner, blobs + "write"},
		{"look up", 403, mismatch, denied, "", storetest.CallHead, "look up az://c/p/k: access denied; grant " + blobs + "read" + owner, blobs + "read"},
		{"read", 403, mismatch, denied, "", storetest.CallOpen, "read az://c/p/k: access denied; grant " + blobs + "read" + owner, blobs + "read"},
		{"delete", 403, mismatch, denied, "", storetest.CallDelete, "delete az://c/p/k: access denied; grant " + blobs + "delete" + owner, blobs + "delete"},
		{"list", 403, mismatch, denied, "", storetest.CallList, "list az://c/p/k: access denied; grant " + blobs + "read" + owner, blobs + "read"},
		{"network rules", 403, "AuthorizationFailure", "This request is not authorized to perform this operation.", "", storetest.CallPut, "upload az://c/p/k: access denied (AuthorizationFailure); allow this host in the network rules of the account, and check the Azure credentials", blobs + "write"},
		{"wrong key", 403, "AuthenticationFailed", failed, signed, storetest.CallPut, "upload az://c/p/k: the credentials are invalid or have expired; check the Azure credentials", ""},
		{"expired signature", 403, "AuthenticationFailed", failed, expired, storetest.CallPut, "upload az://c/p/k: the credentials have expired; renew the Azure credentials", ""},
		{"expired token", 401, "InvalidAuthenticationInfo", failed, token, storetest.CallPut, "upload az://c/p/k: the credentials have expired; renew the Azure credentials", ""},
		{"no key permitted", 403, "KeyBasedAuthenticationNotPermitted", "Key based authentication is not permitted on this storage account.", "", storetest.CallPut, "upload az://c/p/k: the account does not permit its key; remove credentials.account_key_file, so that the Azure credentials are used", ""},
		{"no container", 404, "ContainerNotFound", "The specified container does not exist.", "", storetest.CallHead, "look up az://c/p/k: container c does not exist; create it, or correct url", storetest.NoPermission},
		{"no container to list", 404, "ContainerNotFound", "The specified container does not exist.", "", storetest.CallList, "list az://c/p/k: container c does not exist; create it, or correct url", storetest.NoPermission},
		{"no object", 404, "BlobNotFound", "The specified blob does not exist.", "", storetest.CallHead, "look up az://c/p/k: the object does not exist", storetest.NoPermission},
		{"existing object that the signature must not replace", 403, "UnauthorizedBlobOverwrite", "This request is not authorized to perform blob overwrites.", "", storetest.CallPut, "upload az://c/p/k: the object exists already", storetest.NoPermission},
		{"rate", 503, "ServerBusy", "The server is busy.", "", storetest.CallPut, "upload az://c/p/k: the store limits the rate of requests (ServerBusy)", storetest.NoPermission},
		{"lease", 412, "LeaseIdMissing", "There is currently a lease on the blob and no lease ID was specified in the request.", "", storetest.CallDelete, "delete az://c/p/k: the store responds with status 412: LeaseIdMissing: There is currently a lease on the blob and no lease ID was specified in the request.", storetest.NoPermission},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := storetest.Serve(t, failWith(c.status, c.code, c.message, c.detail))
			s := openStore(t, sink.ObjectsSpec{URL: "az://c/p", Endpoint: server.URL, Credentials: sink.Credentials{SASTokenFile: "none"}})
			s.access = fixedAccess{}
			storetest.CheckError(t, c.call(s), c.want, c.permission)
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
	server := storetest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
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
		if err := storetest.PutText(s, "k", strings.Repeat("x", size)); err == nil || err.Error() != want {
			t.Errorf("%d bytes: got %v, want %s", size, err, want)
		}
	}
}

// TestEndlessListFails: a list that does not end is an error, before it uses the memory of the agent.
func TestEndlessListFails(t *testing.T) {
	server := storetest.Serve(t, func(w http.ResponseWriter, _ *http.Request) {
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
	server := storetest.Serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<EnumerationResults><NextMarker>same</NextMarker></EnumerationResults>")
	})
	s := openStore(t, sink.ObjectsSpec{URL: "az://c", Endpoint: server.URL, Credentials: sink.Credentials{SASTokenFile: "none"}})
	s.access = fixedAccess{}
	if err := storetest.CallList(s); err == nil || !strings.Contains(err.Error(), `does not continue after "same"`) {
		t.Errorf("got %v", err)
	}
}

func TestUnreachableStoreShowsNoSignature(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sas")
	writeFile(t, file, "sv=2021-12-02&sig=geheim")
	server := storetest.Serve(t, nil)
	server.Close()
	s := openStore(t, sink.ObjectsSpec{URL: "az://c/p", Endpoint: server.URL, Credentials: sink.Credentials{SASTokenFile: file}})
	host := strings.TrimPrefix(server.URL, "http://")
	want := "look up az://c/p/k: connect to " + host + ": connect: connection refused"
	if _, err := s.Head(t.Context(), "k"); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
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
