package stores_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"kcagent/e2e/s3test"
	"kcagent/sink"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/store/storetest"
	"kcagent/sink/objects/stores"
)

// TestOpenByScheme: each scheme opens its kind of store, and an unknown one is an error.
func TestOpenByScheme(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"s3://bucket/prefix", ""},
		{"file:///folder", ""},
		{"ftp://host/folder", "unknown kind of object store; use s3://, gs://, az:// or file:///"},
		{"bucket/prefix", "unknown kind of object store"},
	} {
		s, err := stores.Open(t.Context(), &sink.ObjectsSpec{URL: c.url, Region: "us-east-1"})
		if got := errorText(err); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("Open(%q): %q, want %q", c.url, got, c.want)
		}
		if err == nil {
			s.Close()
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestProbeLeavesNothing: the probe detects whether the store replaces objects, leaves no object,
// and deletes what an agent that was killed has left.
func TestProbeLeavesNothing(t *testing.T) {
	for _, conditional := range []bool{true, false} {
		m := storetest.NewMemory(conditional)
		if err := m.Put(t.Context(), ".kcagent-probe-OLD", strings.NewReader("x"), 1, store.Attributes{}); err != nil {
			t.Fatal(err)
		}
		if err := m.Put(t.Context(), "orders-0", strings.NewReader("x"), 1, store.Attributes{}); err != nil {
			t.Fatal(err)
		}
		got, err := stores.Probe(t.Context(), m)
		if err != nil || got != conditional {
			t.Errorf("Probe of a store with conditional writes %v: %v, %v", conditional, got, err)
		}
		var keys []string
		for o, err := range m.List(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, o.Key)
		}
		if len(keys) != 1 || keys[0] != "orders-0" {
			t.Errorf("the store has %q after the probe, want the object of records only", keys)
		}
	}
}

// TestProbeUsesEachPermission: the probe fails with the error of each operation that is denied, and
// its object is recognisable.
func TestProbeUsesEachPermission(t *testing.T) {
	for _, op := range []string{storetest.Put, storetest.Head, storetest.Open, storetest.Delete, storetest.List, storetest.Abort} {
		denied := &store.PermissionError{Permission: "s3:" + op, Err: errors.New(op + " denied")}
		m := storetest.NewMemory(true).Again(func(_ context.Context, c storetest.Call) storetest.Fault {
			if c.Op != storetest.List && !stores.IsProbe(c.Key) {
				t.Errorf("the probe uses the key %q", c.Key)
			}
			if c.Op == op {
				return storetest.Fault{Before: denied}
			}
			return storetest.Fault{}
		})
		_, err := stores.Probe(t.Context(), m)
		var permission *store.PermissionError
		if !errors.As(err, &permission) || permission.Permission != denied.Permission {
			t.Errorf("Probe without the permission for %s: %v", op, err)
		}
	}
	if stores.IsProbe("orders/0") {
		t.Error("an object of records is taken for a probe")
	}
}

// TestProbeComparesContent: a store that returns another content is an error.
func TestProbeComparesContent(t *testing.T) {
	if _, err := stores.Probe(t.Context(), &changing{storetest.NewMemory(true)}); err == nil || !strings.Contains(err.Error(), "has another content than what was uploaded") {
		t.Errorf("Probe: %v", err)
	}
}

// TestProbeFindsWhatItUploads: a server that accepts each request and stores nothing is an error.
func TestProbeFindsWhatItUploads(t *testing.T) {
	_, err := stores.Probe(t.Context(), discarding{storetest.NewMemory(true)})
	if err == nil || !strings.Contains(err.Error(), "is not found after its upload; check the proxies in front of the store") {
		t.Errorf("Probe: %v", err)
	}
}

// discarding stores nothing.
type discarding struct{ *storetest.Memory }

func (discarding) Put(context.Context, string, io.ReaderAt, int64, store.Attributes) error {
	return nil
}

// changing reports another size than it has stored.
type changing struct{ *storetest.Memory }

func (c *changing) Head(ctx context.Context, key string) (store.Object, error) {
	o, err := c.Memory.Head(ctx, key)
	o.Size++
	return o, err
}

// TestProbeComparesMetadata: a store that forgets metadata is an error, because the agent would not
// recognise its own objects after a crash.
func TestProbeComparesMetadata(t *testing.T) {
	m := storetest.NewMemory(true)
	_, err := stores.Probe(t.Context(), forgetful{m})
	if err == nil || !strings.Contains(err.Error(), "has lost its metadata; use a store that keeps it") {
		t.Errorf("Probe: %v", err)
	}
	for o := range m.List(t.Context(), "") {
		t.Errorf("the probe has left %s", o.Key)
	}
}

// forgetful stores no metadata.
type forgetful struct{ *storetest.Memory }

func (f forgetful) Put(ctx context.Context, key string, body io.ReaderAt, size int64, a store.Attributes) error {
	a.Meta = nil
	return f.Memory.Put(ctx, key, body, size, a)
}

// TestProbeOfS3: the probe passes on a real server, and names a permission that is missing.
func TestProbeOfS3(t *testing.T) {
	server := s3test.Start(t)
	proxy := server.Proxy(t)
	s, err := stores.Open(t.Context(), &sink.ObjectsSpec{
		URL: server.URL("prefix"), Region: s3test.Region, Endpoint: proxy.Endpoint, PathStyle: true,
		Credentials: sink.Credentials{AccessKeyFile: server.AccessKeyFile, SecretKeyFile: server.SecretKeyFile},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if conditional, err := stores.Probe(t.Context(), s); err != nil || !conditional {
		t.Errorf("Probe: %v, %v", conditional, err)
	}
	proxy.Set(s3test.Ignore)
	if conditional, err := stores.Probe(t.Context(), s); err != nil || conditional {
		t.Errorf("Probe of a server that ignores the condition: %v, %v", conditional, err)
	}
	proxy.Set(s3test.On(func(r *http.Request) bool { return r.Method == http.MethodDelete }, s3test.Respond(http.StatusForbidden, "AccessDenied", "Access Denied")))
	_, err = stores.Probe(t.Context(), s)
	permission, ok := errors.AsType[*store.PermissionError](err)
	if !ok || permission.Permission != "s3:DeleteObject" || !strings.HasPrefix(err.Error(), "delete s3://lake/prefix/.kcagent-probe-…: access denied; grant s3:DeleteObject ") {
		t.Errorf("Probe without the permission to delete: %v", err)
	}
}
