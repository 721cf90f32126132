package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kcagent/sink/objects/store"
)

// A Target is a store under test.
type Target struct {
	Store store.Store // it is empty
	// Conditional says that Put does not replace an object.
	Conditional bool
	// Large is the size of an object that the store uploads in several parts; 0 if it has no parts.
	Large int64
	// NoAttributes says that the store keeps no content type and no metadata beside an object.
	NoAttributes bool
	// Unfinished begins an upload of a key, and leaves it unfinished. It is nil if the store keeps
	// no unfinished uploads.
	Unfinished func(t *testing.T, key string)
	// Uploads returns the keys of all unfinished uploads, in order. It is nil with Unfinished.
	Uploads func(t *testing.T) []string
}

// TestStore runs the tests that every kind of store must pass. newTarget returns an empty store.
func TestStore(t *testing.T, newTarget func(t *testing.T) *Target) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, c *Target)
	}{
		{"stores an object", testRoundTrip},
		{"keys", testKeys},
		{"missing object", testMissing},
		{"existing object", testExisting},
		{"concurrent uploads of a key", testConcurrent},
		{"body that cannot be read", testUnreadableBody},
		{"context that has ended", testEndedContext},
		{"delete", testDelete},
		{"list", testList},
		{"unfinished uploads", testUnfinished},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := newTarget(t)
			t.Cleanup(target.Store.Close)
			c.test(t, target)
		})
	}
}

var attributes = store.Attributes{
	ContentType: "application/x-ndjson",
	Meta:        map[string]string{"kcagentfirst": "12", "kcagentcluster": "abc_DEF-9", "kcagenttopic": "orders.v1", "kcagentodd1": "a b=c;d"},
}

// content returns n bytes that do not repeat.
func content(n int64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b) // it never fails
	return b
}

func put(t *testing.T, s store.Store, key string, data []byte) {
	t.Helper()
	if err := s.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)), attributes); err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
}

func read(t *testing.T, s store.Store, key string) []byte {
	t.Helper()
	r, err := s.Open(t.Context(), key)
	if err != nil {
		t.Fatalf("Open(%q): %v", key, err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read %q: %v", key, err)
	}
	return data
}

func testRoundTrip(t *testing.T, c *Target) {
	for name, size := range map[string]int64{"small": 1000, "large": c.Large} {
		if size == 0 {
			continue
		}
		key, data := "a/"+name+".jsonl", content(size)
		put(t, c.Store, key, data)
		o, err := c.Store.Head(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if o.Key != key || o.Size != size || o.Modified.IsZero() {
			t.Errorf("Head(%q) is %+v, want the key, %d bytes and a time", key, o, size)
		}
		if !c.NoAttributes && (o.ContentType != attributes.ContentType || o.ContentEncoding != "" || !maps.Equal(o.Meta, attributes.Meta)) {
			t.Errorf("Head(%q) has the attributes %+v, want %+v", key, o.Attributes, attributes)
		}
		if !bytes.Equal(read(t, c.Store, key), data) {
			t.Errorf("the content of %q is another", key)
		}
	}
}

// oddKeys are keys that a template can render.
var oddKeys = []string{"dt=2026-11-28/hour=04/orders-0-00000000000000000000.jsonl.zst", "a b/c+d&e%41/ä~!'()*.log", strings.Repeat("long/", 100) + "x"}

func testKeys(t *testing.T, c *Target) {
	for i, key := range oddKeys {
		data := content(int64(10 + i))
		put(t, c.Store, key, data)
		if o, err := c.Store.Head(t.Context(), key); err != nil || o.Key != key {
			t.Errorf("Head(%q) is %q, %v", key, o.Key, err)
		}
		if !bytes.Equal(read(t, c.Store, key), data) {
			t.Errorf("the content of %q is another", key)
		}
	}
	if got, want := list(t, c.Store, ""), slices.Sorted(slices.Values(oddKeys)); !slices.Equal(got, want) {
		t.Errorf("List has %q, want %q", got, want)
	}
}

func testMissing(t *testing.T, c *Target) {
	put(t, c.Store, "a/b/c", []byte("x"))
	for _, key := range []string{"missing", "a", "a/b", "a/b/c/d"} {
		if o, err := c.Store.Head(t.Context(), key); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("Head(%q) is %+v, %v, want ErrNotExist", key, o, err)
		}
		if r, err := c.Store.Open(t.Context(), key); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("Open(%q) is %v, %v, want ErrNotExist", key, r, err)
		}
	}
}

func testExisting(t *testing.T, c *Target) {
	put(t, c.Store, "k", []byte("first"))
	err := c.Store.Put(t.Context(), "k", strings.NewReader("second"), 6, attributes)
	want, wantErr := "second", error(nil)
	if c.Conditional {
		want, wantErr = "first", store.ErrExists
	}
	if !errors.Is(err, wantErr) {
		t.Errorf("the second Put: %v, want %v", err, wantErr)
	}
	if got := read(t, c.Store, "k"); string(got) != want {
		t.Errorf("the object is %q, want %q", got, want)
	}
}

// testConcurrent: of several uploads of a key, one succeeds if writes are conditional, and the object
// has the content of one of them in any case.
func testConcurrent(t *testing.T, c *Target) {
	const uploads = 4
	var created atomic.Int32
	var wg sync.WaitGroup
	for i := range uploads {
		data := bytes.Repeat([]byte{'a' + byte(i)}, 100_000)
		wg.Go(func() {
			switch err := c.Store.Put(t.Context(), "k", bytes.NewReader(data), int64(len(data)), attributes); {
			case err == nil:
				created.Add(1)
			case !errors.Is(err, store.ErrExists) || !c.Conditional:
				t.Errorf("Put: %v", err)
			}
		})
	}
	wg.Wait()
	want := int32(uploads)
	if c.Conditional {
		want = 1
	}
	if n := created.Load(); n != want {
		t.Errorf("%d uploads succeeded, want %d", n, want)
	}
	if data := read(t, c.Store, "k"); len(data) != 100_000 || bytes.Count(data, data[:1]) != len(data) {
		t.Errorf("the object has %d bytes of several uploads", len(data))
	}
}

var errRead = errors.New("the file cannot be read")

// A brokenBody fails to read after some bytes.
type brokenBody struct{ whole int64 }

func (b brokenBody) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > b.whole {
		return 0, errRead
	}
	return len(p), nil
}

func testUnreadableBody(t *testing.T, c *Target) {
	for key, size := range map[string]int64{"small": 1000, "large": max(c.Large, 1001)} {
		if err := c.Store.Put(t.Context(), key, brokenBody{size - 1}, size, attributes); err == nil {
			t.Errorf("Put(%q) succeeded", key)
		}
		if _, err := c.Store.Head(t.Context(), key); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("Head(%q) after a failed Put: %v, want ErrNotExist", key, err)
		}
	}
	if keys := list(t, c.Store, ""); len(keys) > 0 {
		t.Errorf("List after failed uploads has %q", keys)
	}
}

func testEndedContext(t *testing.T, c *Target) {
	put(t, c.Store, "old", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Store.Put(ctx, "new", strings.NewReader("x"), 1, attributes); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v, want the error of the context", err)
	}
	if _, err := c.Store.Head(ctx, "old"); !errors.Is(err, context.Canceled) {
		t.Errorf("Head: %v, want the error of the context", err)
	}
	for _, err := range c.Store.List(ctx, "") {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("List: %v, want the error of the context", err)
		}
	}
	if keys := list(t, c.Store, ""); !slices.Equal(keys, []string{"old"}) {
		t.Errorf("the store has %q", keys)
	}
}

func testDelete(t *testing.T, c *Target) {
	put(t, c.Store, "a/b", []byte("x"))
	put(t, c.Store, "a/c", []byte("x"))
	for range 2 { // the second time there is none
		if err := c.Store.Delete(t.Context(), "a/b"); err != nil {
			t.Fatal(err)
		}
	}
	if keys := list(t, c.Store, ""); !slices.Equal(keys, []string{"a/c"}) {
		t.Errorf("the store has %q, want a/c", keys)
	}
	put(t, c.Store, "a/b", []byte("y")) // the key is free
}

func list(t *testing.T, s store.Store, prefix string) []string {
	t.Helper()
	var keys []string
	for o, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("List(%q): %v", prefix, err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

func testList(t *testing.T, c *Target) {
	all := []string{"a-1/x", "a/1", "a/2/x", "a/20", "b/1"}
	for _, key := range []string{"b/1", "a/20", "a/2/x", "a/1", "a-1/x"} {
		put(t, c.Store, key, []byte(key))
	}
	for prefix, want := range map[string][]string{"": all, "a/": {"a/1", "a/2/x", "a/20"}, "a/2": {"a/2/x", "a/20"}, "b/1": {"b/1"}, "c": nil} {
		if got := list(t, c.Store, prefix); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
			t.Errorf("List(%q) has %q, want %q", prefix, got, want)
		}
	}
	for o, err := range c.Store.List(t.Context(), "a/2/") {
		if err != nil || o.Key != "a/2/x" || o.Size != 5 || o.Modified.IsZero() {
			t.Errorf("List has %+v, %v, want the key, 5 bytes and a time", o, err)
		}
	}
	n := 0
	for range c.Store.List(t.Context(), "") {
		if n++; n == 2 {
			break // the iterator must not continue
		}
	}
}

func testUnfinished(t *testing.T, c *Target) {
	if err := c.Store.AbortUploads(t.Context(), "none"); err != nil {
		t.Errorf("AbortUploads without an upload: %v", err)
	}
	put(t, c.Store, "a/1", []byte("x"))
	if err := c.Store.AbortUploads(t.Context(), "a/1"); err != nil {
		t.Errorf("AbortUploads of an object: %v", err)
	}
	if got := read(t, c.Store, "a/1"); string(got) != "x" {
		t.Errorf("the object is %q after AbortUploads", got)
	}
	if c.Unfinished == nil {
		return
	}
	for _, key := range []string{"u/1", "u/10", "u/1/x", "u/2"} {
		c.Unfinished(t, key)
	}
	c.Unfinished(t, "u/1") // two uploads of a key
	if err := c.Store.AbortUploads(t.Context(), "u/1"); err != nil {
		t.Fatal(err)
	}
	if got, want := c.Uploads(t), []string{"u/1/x", "u/10", "u/2"}; !slices.Equal(got, want) {
		t.Errorf("the unfinished uploads are %q, want %q", got, want)
	}
	if keys := list(t, c.Store, ""); !slices.Equal(keys, []string{"a/1"}) {
		t.Errorf("the store has %q: an unfinished upload is visible", keys)
	}
}
