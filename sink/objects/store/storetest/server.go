package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"kcagent/sink/objects/store"
)

// Serve starts a server until the test ends.
func Serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server
}

// Functions that call a method of a store with key k.
var (
	CallPut    = func(s store.Store) error { return PutText(s, "k", "x") }
	CallHead   = func(s store.Store) error { _, err := s.Head(context.Background(), "k"); return err }
	CallOpen   = func(s store.Store) error { _, err := s.Open(context.Background(), "k"); return err }
	CallDelete = func(s store.Store) error { return s.Delete(context.Background(), "k") }
	CallList   = func(s store.Store) (err error) {
		for _, err = range s.List(context.Background(), "k") { // an error is the last
		}
		return err
	}
)

// PutText stores a text without attributes.
func PutText(s store.Store, key, text string) error {
	return s.Put(context.Background(), key, strings.NewReader(text), int64(len(text)), store.Attributes{})
}

// NoPermission is the permission of an error that is not about permissions.
const NoPermission = "-"

// CheckError checks the text of an error and the permission that it names; "" if the credentials are
// invalid.
func CheckError(t *testing.T, err error, want, permission string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
	}
	denied, ok := errors.AsType[*store.PermissionError](err)
	if ok != (permission != NoPermission) || ok && denied.Permission != permission {
		t.Errorf("got the permission error %v, want %q", denied, permission)
	}
}

// Accepted reports whether a store without object k accepts the credentials.
func Accepted(t *testing.T, s store.Store) bool {
	t.Helper()
	err := CallHead(s)
	denied, rejected := errors.AsType[*store.PermissionError](err)
	if !rejected && !errors.Is(err, store.ErrNotExist) || rejected && denied.Permission != "" {
		t.Fatal(err)
	}
	return !rejected
}

// TestStoreBelowPrefixes runs TestStore with prefixes of one bucket, each beside other objects whose
// keys begin like the prefix. all is the store of the whole bucket.
func TestStoreBelowPrefixes(t *testing.T, all store.Store, newTarget func(t *testing.T, prefix string) *Target) {
	runs := 0
	TestStore(t, func(t *testing.T) *Target {
		runs++
		prefix := fmt.Sprintf("a b/%d", runs)
		for _, neighbour := range []string{prefix + "0/x", prefix} {
			if err := PutText(all, neighbour, "x"); err != nil {
				t.Fatal(err)
			}
		}
		return newTarget(t, prefix)
	})
}

// TestEncoding tests that an object with Content-Encoding is returned as it is stored.
func TestEncoding(t *testing.T, s store.Store, key string, size int64) {
	t.Helper()
	content := "\x1f\x8b" + strings.Repeat("x", int(size)-2)
	if err := s.Put(t.Context(), key, strings.NewReader(content), size, store.Attributes{ContentType: "text/plain", ContentEncoding: "gzip"}); err != nil {
		t.Fatal(err)
	}
	o, err := s.Head(t.Context(), key)
	if err != nil || o.ContentEncoding != "gzip" || o.ContentType != "text/plain" {
		t.Errorf("Head: %+v, %v", o, err)
	}
	r, err := s.Open(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	_ = r.Close()
	if err != nil || string(got) != content {
		t.Errorf("got %d bytes, %v, want what was uploaded", len(got), err)
	}
}

// TestMissingBucket tests that an upload to a bucket that does not exist fails with the text want, in
// one request, and with a large object in several.
func TestMissingBucket(t *testing.T, s store.Store, large int64, want string) {
	t.Helper()
	for _, size := range []int64{1, large} {
		if err := PutText(s, "k", strings.Repeat("x", int(size))); err == nil || err.Error() != want {
			t.Errorf("%d bytes: got %v, want %s", size, err, want)
		}
	}
}
