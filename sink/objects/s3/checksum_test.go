package s3_test

import (
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"kcagent/e2e/s3test"
	"kcagent/sink"
	"kcagent/sink/objects/store"
)

// TestDamagedContentIsRejected: a real server compares the checksum of each kind of request, the
// first one and those after it, and there is no object if the content was changed on its way.
func TestDamagedContentIsRejected(t *testing.T) {
	server := s3test.Start(t)
	for _, secure := range []bool{false, true} {
		proxy := server.Proxy(t)
		if secure {
			proxy = server.SecureProxy(t)
		}
		for _, size := range []int{1000, 2*minPart + 1} {
			o := spec(server, "p")
			o.Endpoint, o.TLS = proxy.Endpoint, &sink.ObjectsTLS{CAFile: proxy.CAFile}
			s := open(t, o, inParts)
			for _, key := range []string{"first", "second"} { // the first one has a further checksum
				proxy.Set(s3test.Damage)
				if err := put(t, s, key, size); err == nil {
					t.Errorf("TLS %t: an object of %d bytes was damaged, and is accepted", secure, size)
				}
				proxy.Set(nil)
				if _, err := s.Head(t.Context(), key); !errors.Is(err, store.ErrNotExist) {
					t.Errorf("TLS %t: the object exists after damaged content: %v", secure, err)
				}
				if err := put(t, s, key, size); err != nil {
					t.Errorf("TLS %t: %v", secure, err)
				}
				if err := s.Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// TestChecksumOfStore: with TLS, requests have a CRC32 alone once a store has returned one, and an MD5
// if it ignores or rejects the other. What a store has rejected once is not repeated.
func TestChecksumOfStore(t *testing.T) {
	rejects := func(status int, code string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			for name := range r.Header {
				if strings.HasPrefix(name, "X-Amz-Checksum-") {
					return s3test.Respond(status, code, "Unsupported header '"+strings.ToLower(name)+"' received for this API call.")(w, r)
				}
			}
			return false
		}
	}
	const both, crc32, md5 = "crc32 md5", "crc32", "md5"
	for _, c := range []struct {
		name         string
		respond      func(http.ResponseWriter, *http.Request) bool
		first, later []string // the checksums of the requests of an upload
	}{
		{"compares", func(w http.ResponseWriter, r *http.Request) bool {
			if sum := r.Header.Get("X-Amz-Checksum-Crc32"); sum != "" {
				w.Header().Set("X-Amz-Checksum-Crc32", sum)
			}
			return false
		}, []string{both}, []string{crc32}},
		{"ignores", func(http.ResponseWriter, *http.Request) bool { return false }, []string{both}, []string{md5}},
		{"rejects", rejects(http.StatusBadRequest, "InvalidArgument"), []string{both, md5}, []string{md5}},
		{"does not implement", rejects(http.StatusNotImplemented, "NotImplemented"), []string{both, both, md5}, []string{md5}},
	} {
		for _, size := range []int{1000, minPart + 1} {
			var mu sync.Mutex
			var sums []string
			created := 0
			s := open(t, secureSpec(t, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case r.Method == http.MethodPut:
					sums = append(sums, checksumsOf(r))
				case r.URL.Query().Has("uploads") && r.Header.Get("X-Amz-Checksum-Algorithm") == "CRC32":
					created++
				}
				_, _ = io.Copy(io.Discard, r.Body)
				if !c.respond(w, r) {
					accept(w, r)
				}
			}), inParts)
			for i, want := range [][]string{c.first, c.later, c.later} {
				sums, created = nil, 0
				if err := put(t, s, "k", size); err != nil {
					t.Fatalf("a store that %s: %v", c.name, err)
				}
				if size > minPart {
					last := want[len(want)-1]
					want = []string{last, last} // the request that begins the upload is rejected
					if (created > 0) != (last != md5 || i == 0 && len(c.first) > 1) {
						t.Errorf("a store that %s: upload %d begins %d times with CRC32", c.name, i, created)
					}
				}
				if !slices.Equal(sums, want) {
					t.Errorf("a store that %s: upload %d of %d bytes has requests with %q, want %q", c.name, i, size, sums, want)
				}
			}
		}
	}
}

// checksumsOf returns which checksums a request has.
func checksumsOf(r *http.Request) string {
	var names []string
	if r.Header.Get("X-Amz-Checksum-Crc32") != "" {
		names = append(names, "crc32")
	}
	if r.Header.Get("Content-Md5") != "" {
		names = append(names, "md5")
	}
	return strings.Join(names, " ")
}

// secureSpec is fakeSpec with a store that has TLS.
func secureSpec(t *testing.T, h http.HandlerFunc) *sink.ObjectsSpec {
	server := httptest.NewTLSServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	o := fakeSpec(t, server.URL)
	o.TLS = &sink.ObjectsTLS{CAFile: file(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))}
	return o
}
