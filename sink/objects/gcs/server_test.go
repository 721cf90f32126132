package gcs

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"kcagent/sink"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/store/storetest"
)

// The servers of these tests respond as Google's documentation says. The emulator knows no
// permissions and no credentials, and completes an upload that a client asks for.

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
	const denied = "kcagent@lake.iam.gserviceaccount.com does not have storage.buckets.get access to the Google Cloud Storage bucket. Permission 'storage.buckets.get' denied on resource (or it may not exist)."
	for _, c := range []struct {
		name            string
		status          int
		reason, message string
		call            func(store.Store) error
		want            string
		permission      string
	}{
		{"create", 403, "forbidden", "access denied", storetest.CallPut, "upload gs://b/p/k: access denied; grant storage.objects.create to the owner of credentials.service_account_file", "storage.objects.create"},
		{"get", 403, "forbidden", "access denied", storetest.CallHead, "look up gs://b/p/k: access denied; grant storage.objects.get to the owner of credentials.service_account_file", "storage.objects.get"},
		{"read", 403, "forbidden", "access denied", storetest.CallOpen, "read gs://b/p/k: access denied; grant storage.objects.get to the owner of credentials.service_account_file", "storage.objects.get"},
		{"delete", 403, "forbidden", "access denied", storetest.CallDelete, "delete gs://b/p/k: access denied; grant storage.objects.delete to the owner of credentials.service_account_file", "storage.objects.delete"},
		{"list", 403, "forbidden", "access denied", storetest.CallList, "list gs://b/p/k: access denied; grant storage.objects.list to the owner of credentials.service_account_file", "storage.objects.list"},
		{"permission that the store names", 403, "forbidden", denied, storetest.CallPut, "upload gs://b/p/k: access denied; grant storage.buckets.get to the owner of credentials.service_account_file", "storage.buckets.get"},
		{"rejected token", 401, "authError", "Invalid Credentials", storetest.CallPut, "upload gs://b/p/k: the credentials are invalid or have expired; check credentials.service_account_file", ""},
		{"no bucket", 404, "notFound", "The specified bucket does not exist.", storetest.CallHead, "look up gs://b/p/k: bucket b does not exist; create it, or correct url", storetest.NoPermission},
		{"no bucket to list", 404, "notFound", "The specified bucket does not exist.", storetest.CallList, "list gs://b/p/k: bucket b does not exist; create it, or correct url", storetest.NoPermission},
		{"no object", 404, "notFound", "No such object: b/p/k", storetest.CallHead, "look up gs://b/p/k: the object does not exist", storetest.NoPermission},
		{"rate", 429, "rateLimitExceeded", "The object b/p/k exceeded the rate limit", storetest.CallPut, "upload gs://b/p/k: the store limits the rate of requests (status 429)", storetest.NoPermission},
		{"billing", 403, "accountDisabled", "The billing account for the owning project is disabled in state absent", storetest.CallPut, "upload gs://b/p/k: the store rejects the request for billing reasons: The billing account for the owning project is disabled in state absent", storetest.NoPermission},
		{"retention", 403, "retentionPolicyNotMet", "Object 'b/p/k' is subject to bucket's retention policy", storetest.CallDelete, "delete gs://b/p/k: the store responds with status 403: Object 'b/p/k' is subject to bucket's retention policy", storetest.NoPermission},
		{"defect of the store", 500, "backendError", "Backend\nError AAAAAAAAAAAAAAAAAAAAAAAA1", storetest.CallPut, "upload gs://b/p/k: the store responds with status 500: Backend Error …", storetest.NoPermission},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := storetest.Serve(t, failWith(c.status, c.reason, c.message))
			s := openStore(t, sink.ObjectsSpec{URL: "gs://b/p", Endpoint: server.URL})
			s.tokens = fixedTokens{}
			storetest.CheckError(t, c.call(s), c.want, c.permission)
		})
	}
}

// fixedTokens are credentials that do not change.
type fixedTokens struct{}

func (fixedTokens) get(context.Context) (string, error) { return "token", nil }
func (fixedTokens) reject()                             {}
func (fixedTokens) describe() string                    { return "credentials.service_account_file" }

func TestUnreachableStore(t *testing.T) {
	server := storetest.Serve(t, func(http.ResponseWriter, *http.Request) {})
	server.Close()
	s := openStore(t, sink.ObjectsSpec{URL: "gs://b/p", Endpoint: server.URL})
	host := strings.TrimPrefix(server.URL, "http://")
	want := "look up gs://b/p/k: connect to " + host + ": connect: connection refused"
	if _, err := s.Head(t.Context(), "k"); err == nil || err.Error() != want {
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
		server := storetest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, page)
		})
		s := openStore(t, sink.ObjectsSpec{URL: "gs://b", Endpoint: server.URL})
		if err := storetest.CallPut(s); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", page, err, want)
		}
	}
}

// TestEndlessResponseFails: a response that does not end is an error, before it uses the memory of the
// agent.
func TestEndlessResponseFails(t *testing.T) {
	server := storetest.Serve(t, func(w http.ResponseWriter, _ *http.Request) {
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
	server := storetest.Serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"nextPageToken": "same"}`) })
	s := openStore(t, sink.ObjectsSpec{URL: "gs://b", Endpoint: server.URL})
	if err := storetest.CallList(s); err == nil || !strings.Contains(err.Error(), `does not continue after "same"`) {
		t.Errorf("got %v", err)
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
