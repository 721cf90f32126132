package s3_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"go.uber.org/goleak"

	"kcagent/e2e/s3test"
	"kcagent/sink"
	"kcagent/sink/objects/s3"
	"kcagent/sink/objects/store/storetest"
)

func TestMain(m *testing.M) {
	minio.DefaultRetryUnit = time.Millisecond // the client pauses after the last attempt, too
	goleak.VerifyTestMain(m)
}

// minPart is the smallest part that a server accepts.
const minPart = 5 << 20

var inParts = s3.Tuning{Single: minPart, Part: minPart}

func spec(server *s3test.Server, prefix string) *sink.ObjectsSpec {
	return &sink.ObjectsSpec{
		URL: server.URL(prefix), Region: s3test.Region, Endpoint: server.Endpoint, PathStyle: true,
		Credentials: sink.Credentials{AccessKeyFile: server.AccessKeyFile, SecretKeyFile: server.SecretKeyFile},
	}
}

func open(t *testing.T, o *sink.ObjectsSpec, tune s3.Tuning) *s3.Store {
	t.Helper()
	s, err := s3.OpenTuned(t.Context(), o, tune)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestStoreContract: the store keeps the contract on a server with conditional writes, on one that
// ignores the condition, and on one that does not implement it.
func TestStoreContract(t *testing.T) {
	server := s3test.Start(t)
	proxy := server.Proxy(t)
	var stores atomic.Int32
	for _, c := range []struct {
		name        string
		fault       s3test.Fault
		conditional bool
	}{
		{"conditional writes", nil, true},
		{"condition ignored", s3test.Ignore, false},
		{"condition not implemented", s3test.Reject, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			proxy.Set(c.fault)
			storetest.TestStore(t, func(t *testing.T) *storetest.Target {
				prefix := fmt.Sprintf("prefix%d/below", stores.Add(1))
				o := spec(server, prefix)
				o.Endpoint = proxy.Endpoint
				return &storetest.Target{
					Store: open(t, o, inParts), Conditional: c.conditional, Large: 2*minPart + 100,
					Unfinished: func(t *testing.T, key string) { begin(t, server, prefix+"/"+key) },
					Uploads:    func(t *testing.T) []string { return unfinished(t, server, prefix+"/") },
				}
			})
		})
	}
}

// begin begins an upload with one part.
func begin(t *testing.T, server *s3test.Server, key string) {
	t.Helper()
	id, err := server.Client.NewMultipartUpload(t.Context(), server.Bucket, key, minio.PutObjectOptions{})
	if err == nil {
		_, err = server.Client.PutObjectPart(t.Context(), server.Bucket, key, id, 1, strings.NewReader("part"), 4, minio.PutObjectPartOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// unfinished returns the keys below prefix of unfinished uploads.
func unfinished(t *testing.T, server *s3test.Server, prefix string) []string {
	t.Helper()
	r, err := server.Client.ListMultipartUploads(t.Context(), server.Bucket, prefix, "", "", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, u := range r.Uploads {
		keys = append(keys, strings.TrimPrefix(u.Key, prefix))
	}
	slices.Sort(keys)
	return keys
}
