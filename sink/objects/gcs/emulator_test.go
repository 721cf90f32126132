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
		all := openStore(t, sink.ObjectsSpec{URL: "gs://" + name, Endpoint: endpoint})
		storetest.TestStoreBelowPrefixes(t, all, func(t *testing.T, prefix string) *storetest.Target {
			s := openStore(t, sink.ObjectsSpec{URL: "gs://" + name + "/" + prefix, Endpoint: endpoint})
			return &storetest.Target{Store: s, Conditional: true, Large: 2 * s.part}
		})
	})
	t.Run("encoding and class", func(t *testing.T) {
		testEncoding(t, sink.ObjectsSpec{URL: "gs://" + bucket(t), Endpoint: endpoint, StorageClass: "NEARLINE"})
	})
	t.Run("missing bucket", func(t *testing.T) {
		s := openStore(t, sink.ObjectsSpec{URL: "gs://none/p", Endpoint: endpoint})
		storetest.TestMissingBucket(t, s, s.part+1, "upload gs://none/p/k: bucket none does not exist; create it, or correct url")
	})
}

// testEncoding: an object with Content-Encoding is returned as it is stored, and has the storage
// class.
func testEncoding(t *testing.T, spec sink.ObjectsSpec) {
	s := openStore(t, spec)
	for _, size := range []int64{100, s.part + 1} {
		key := fmt.Sprint(size, ".gz")
		storetest.TestEncoding(t, s, key, size)
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
