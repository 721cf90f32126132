package s3_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/sink"
	"kcagent/sink/objects/s3"
)

// TestUploadNeedsLittleMemory: an upload in parts needs buffers, not its content.
func TestUploadNeedsLittleMemory(t *testing.T) {
	s := open(t, fakeSpec(t, fake(t, accept)), inParts)
	const size = 64 << 20
	if err := s.Put(t.Context(), "warm", zeros{}, 1, attributes); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := s.Put(t.Context(), "k", zeros{}, size, attributes); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > size/8 {
		t.Errorf("an upload of %d bytes allocated %d", size, n)
	}
}

// accept is a store that forgets what it is given.
func accept(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	switch {
	case r.URL.Query().Has("uploads"):
		_, _ = io.WriteString(w, "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
	case r.Method == http.MethodPost:
		_, _ = io.WriteString(w, "<CompleteMultipartUploadResult><Bucket>lake</Bucket></CompleteMultipartUploadResult>")
	}
	w.Header().Set("ETag", `"1"`)
}

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// TestPartsHoldTheLargestObject: 10,000 parts suffice for 1 TiB.
func TestPartsHoldTheLargestObject(t *testing.T) {
	for _, size := range []int64{33 << 20, 300 << 30, 1 << 40, 1<<40 + 1<<30} {
		part := s3.PartSize(size)
		if n := (size + part - 1) / part; n > 10_000 || part < 32<<20 || part > 5<<30 {
			t.Errorf("an object of %d bytes has %d parts of %d bytes", size, n, part)
		}
	}
}

// TestSettingsOfObjects: both kinds of uploads have encryption, storage class and tags, and each
// request has a checksum.
func TestSettingsOfObjects(t *testing.T) {
	const key = "arn:aws:kms:us-east-1:1:key/2"
	for _, size := range []int{10, 2 * minPart} {
		var mu sync.Mutex
		created, sums := http.Header{}, true
		o := fakeSpec(t, fake(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			if r.URL.Query().Has("uploads") || r.Method == http.MethodPut && !r.URL.Query().Has("partNumber") {
				created = r.Header.Clone()
			}
			if r.Method == http.MethodPut {
				sums = sums && len(r.Header.Get("X-Amz-Content-Sha256")) == 64
			}
			mu.Unlock()
			accept(w, r)
		}))
		o.ServerSideEncryption, o.StorageClass, o.Tags = key, "STANDARD_IA", map[string]string{"team": "billing", "a b": "c/d"}
		if err := put(t, open(t, o, inParts), "k", size); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": key,
			"X-Amz-Storage-Class": "STANDARD_IA", "X-Amz-Tagging": "a%20b=c%2Fd&team=billing", "Content-Type": "text/plain", "X-Amz-Meta-Kcagentfirst": "12",
		} {
			if got := strings.ReplaceAll(created.Get(name), "+", "%20"); got != want {
				t.Errorf("an object of %d bytes has %s: %q, want %q", size, name, got, want)
			}
		}
		if !sums {
			t.Errorf("an object of %d bytes has requests without checksums", size)
		}
	}
}

// TestAddressOfObjects: the bucket is in the host name or in the path, and the region in the host name.
func TestAddressOfObjects(t *testing.T) {
	for _, c := range []struct {
		url, endpoint, region string
		pathStyle             bool
		want                  string
	}{
		{"s3://lake/a/b/", "", "eu-central-1", false, "https://lake.s3.eu-central-1.amazonaws.com/a/b/k"},
		{"s3://lake", "", "eu-central-1", true, "https://s3.eu-central-1.amazonaws.com/lake/k"},
		{"s3://lake.example.com/a", "", "eu-central-1", false, "https://s3.eu-central-1.amazonaws.com/lake.example.com/a/k"},
		{"s3://lake/a", "", "cn-north-1", false, "https://lake.s3.cn-north-1.amazonaws.com.cn/a/k"},
		{"s3://lake/a", "https://minio:9000", "x", false, "https://lake.minio:9000/a/k"},
		{"s3://lake/a", "https://minio:9000", "x", true, "https://minio:9000/lake/a/k"},
		{"s3://lake/a", "http://10.0.0.1:9000/", "x", false, "http://10.0.0.1:9000/lake/a/k"},
	} {
		o := &sink.ObjectsSpec{URL: c.url, Endpoint: c.endpoint, Region: c.region, PathStyle: c.pathStyle}
		o.Credentials = fakeSpec(t, "").Credentials
		got, err := open(t, o, s3.Tuning{}).URLOf(t.Context(), "k")
		if err != nil || got != c.want {
			t.Errorf("%s at %q: %q, %v, want %q", c.url, c.endpoint, got, err, c.want)
		}
	}
}

// TestSlowUploadContinues: an upload that makes progress has no limit, and one that makes none
// ends.
func TestSlowUploadContinues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			pause time.Duration // of the store, before each piece
			want  string
		}{
			{20 * time.Second, ""},
			{31 * time.Second, "no response and no progress for 30s"},
		} {
			ours, theirs := net.Pipe()
			var wg sync.WaitGroup
			wg.Go(func() { serveSlowly(theirs, c.pause) })
			rt, closeIdle := s3.NewTransport(func(context.Context, string, string) (net.Conn, error) { return ours, nil })
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://store/k", io.LimitReader(rand.NewChaCha8([32]byte{}), 1<<20))
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = 1 << 20
			resp, err := rt.RoundTrip(r)
			if c.want == "" {
				if err != nil {
					t.Fatalf("a slow upload: %v", err)
				}
				_ = resp.Body.Close()
			} else {
				expect(t, err, "", c.want)
			}
			closeIdle()
			_ = theirs.Close()
			_ = ours.Close()
			wg.Wait()
		}
	})
}

// serveSlowly responds to one request, whose content it reads in pieces of 32 KiB.
func serveSlowly(conn net.Conn, pause time.Duration) {
	r, err := http.ReadRequest(bufio.NewReaderSize(conn, 4096))
	if err != nil {
		return
	}
	for buf := make([]byte, 32<<10); err == nil; _, err = io.ReadFull(r.Body, buf) {
		time.Sleep(pause)
	}
	_ = (&http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(&bytes.Buffer{})}).Write(conn)
}

// TestConnectionsAreUsedAgain: as many requests as the sink sends at the same time need as many
// connections, and the next ones need no others.
func TestConnectionsAreUsedAgain(t *testing.T) {
	const requests = 12
	var arrived sync.WaitGroup
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived.Done()
		arrived.Wait()
		w.Header().Set("ETag", `"1"`)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	s := open(t, fakeSpec(t, server.URL), s3.Tuning{})
	for range 3 {
		arrived.Add(requests)
		var sent sync.WaitGroup
		for range requests {
			sent.Go(func() {
				if err := put(t, s, "k", 10); err != nil {
					t.Error(err)
				}
			})
		}
		sent.Wait()
	}
	if n := connections.Load(); n != requests {
		t.Errorf("%d connections, want %d", n, requests)
	}
	s.Close()
}
