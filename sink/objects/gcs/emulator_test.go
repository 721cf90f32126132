package gcs

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"kcagent/e2e/gcstest"
	"kcagent/sink"
	"kcagent/sink/objects/rest"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openStore returns a store with parts of 256 KiB, the smallest that the store permits.
func openStore(t *testing.T, spec sink.ObjectsSpec) *Store {
	t.Helper()
	s, err := open(&spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.part = 256 << 10
	return s
}

// TestEmulator runs against fake-gcs-server. What it lacks, permissions, credentials and
// interrupted uploads, is in the other tests.
func TestEmulator(t *testing.T) {
	endpoint := gcstest.Start(t)
	buckets := 0
	bucket := func(t *testing.T) string {
		buckets++
		name := fmt.Sprint("bucket-", buckets)
		gcstest.CreateBucket(t, endpoint, name)
		return name
	}
	t.Run("contract", func(t *testing.T) {
		storetest.TestStore(t, func(t *testing.T) *storetest.Target {
			s := openStore(t, sink.ObjectsSpec{URL: "gs://" + bucket(t), Endpoint: endpoint})
			return &storetest.Target{Store: s, Conditional: true, Large: 3*s.part + 1}
		})
	})
	t.Run("contract below a prefix", func(t *testing.T) {
		name := bucket(t)
		outside := openStore(t, sink.ObjectsSpec{URL: "gs://" + name, Endpoint: endpoint})
		runs := 0
		storetest.TestStore(t, func(t *testing.T) *storetest.Target {
			runs++
			prefix := fmt.Sprintf("a b/%d", runs)
			for _, neighbour := range []string{prefix + "0/x", prefix} {
				if err := outside.Put(t.Context(), neighbour, strings.NewReader("x"), 1, store.Attributes{}); err != nil {
					t.Fatal(err)
				}
			}
			s := openStore(t, sink.ObjectsSpec{URL: "gs://" + name + "/" + prefix, Endpoint: endpoint})
			return &storetest.Target{Store: s, Conditional: true, Large: 2 * s.part}
		})
	})
	t.Run("encoding and class", func(t *testing.T) {
		testEncoding(t, sink.ObjectsSpec{URL: "gs://" + bucket(t), Endpoint: endpoint, StorageClass: "NEARLINE"})
	})
	t.Run("missing bucket", func(t *testing.T) {
		s := openStore(t, sink.ObjectsSpec{URL: "gs://none/p", Endpoint: endpoint})
		const want = "upload gs://none/p/k: bucket none does not exist; create it, or correct url"
		for _, size := range []int64{1, s.part + 1} {
			if err := s.Put(t.Context(), "k", strings.NewReader(strings.Repeat("x", int(size))), size, store.Attributes{}); err == nil || err.Error() != want {
				t.Errorf("%d bytes: got %v, want %s", size, err, want)
			}
		}
	})
}

// testEncoding: an object with Content-Encoding is returned as it is stored, and has the storage
// class.
func testEncoding(t *testing.T, spec sink.ObjectsSpec) {
	s := openStore(t, spec)
	for _, size := range []int64{100, s.part + 1} {
		key := fmt.Sprint(size, ".gz")
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
		resp, err := s.client.Do(t.Context(), rest.Request{Method: http.MethodGet, URL: s.objectURL(key)})
		if err != nil {
			t.Fatal(err)
		}
		described, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(described), `"storageClass":"NEARLINE"`) {
			t.Errorf("the object is %s", described)
		}
	}
}
