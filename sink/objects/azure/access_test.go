package azure

import (
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

// identity is a token service and a store that accepts one token.
type identity struct {
	*httptest.Server
	mu       sync.Mutex
	valid    string
	requests int
}

func newIdentity(t *testing.T) *identity {
	i := &identity{valid: "token-1"}
	i.Server = storetest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
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
		if !storetest.Accepted(t, s) {
			t.Fatal("the token was rejected")
		}
	}
	if i.requests != 1 {
		t.Errorf("%d requests of tokens, want 1", i.requests)
	}
	i.mu.Lock()
	i.valid = "token-2"
	i.mu.Unlock()
	if storetest.Accepted(t, s) || !storetest.Accepted(t, s) {
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
	if !storetest.Accepted(t, s) {
		t.Error("the token was rejected")
	}
	if !strings.HasPrefix(form, "client new "+scope) {
		t.Errorf("the request for a token was %q", form)
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
