package s3_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/s3test"
	"kcagent/sink/objects/s3"
	"kcagent/sink/objects/store"
)

var attributes = store.Attributes{ContentType: "text/plain", Meta: map[string]string{"kcagentfirst": "12"}}

func put(t *testing.T, s *s3.Store, key string, size int) error {
	t.Helper()
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
	return s.Put(t.Context(), key, bytes.NewReader(data), int64(size), attributes)
}

// TestUploadFaults: faults that pass are retried within the call. Others fail it after a few
// requests, and leave neither an object nor parts.
func TestUploadFaults(t *testing.T) {
	server := s3test.Start(t)
	proxy := server.Proxy(t)
	const small, large = 1000, 2*minPart + 1
	put200 := s3test.Respond(http.StatusOK, "InternalError", "We encountered an internal error. Please try again.")
	slowDown := s3test.Respond(http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
	for _, c := range []struct {
		name  string
		size  int
		fault s3test.Fault
		want  string // of the error; empty is none
	}{
		{"rate limit that passes", small, s3test.Times(2, slowDown), ""},
		{"rate limit", small, slowDown, "the store limits the rate of requests (SlowDown)"},
		{"reset that passes", small, s3test.Times(1, s3test.Reset), ""},
		{"reset", small, s3test.Reset, " closed the connection"},
		{"reset of a part that passes", large, s3test.Times(2, s3test.On(s3test.Part, s3test.Reset)), ""},
		{"reset of parts", large, s3test.On(s3test.Part, s3test.Reset), " closed the connection"},
		{"internal error of parts", large, s3test.On(s3test.Part, s3test.Respond(500, "InternalError", "We encountered an internal error.")), "the store responds with InternalError: We encountered an internal error."},
		{"200 with an error that passes", large, s3test.Times(1, s3test.On(s3test.Completion, put200)), ""},
		{"200 with an error", large, s3test.On(s3test.Completion, put200), "the store responds with InternalError: We encountered an internal error. Please try again."},
		{"conflict", small, s3test.Respond(http.StatusConflict, "ConditionalRequestConflict", "The conditional request cannot succeed"), "another upload of the same object is in progress"},
		{"conflict of parts", large, s3test.On(s3test.Completion, s3test.Respond(http.StatusConflict, "ConditionalRequestConflict", "x")), "another upload of the same object is in progress"},
		{"header that is not implemented", small, s3test.Respond(http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented"), "the store does not implement a part of the request; remove storage_class, tags and server_side_encryption"},
		{"proxy", small, func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "<html>nginx with an id 93ab8812</html>", http.StatusBadGateway)
			return true
		}, "the store responds with 502 Bad Gateway"},
	} {
		t.Run(c.name, func(t *testing.T) {
			prefix := strings.ReplaceAll(c.name, " ", "-")
			o := spec(server, prefix)
			o.Endpoint = proxy.Endpoint
			s := open(t, o, inParts)
			proxy.Set(c.fault)
			err := put(t, s, "k", c.size)
			requests := proxy.Requests()
			if n := len(requests); n > 8 {
				t.Errorf("%d requests", n)
			}
			proxy.Set(nil)
			obj, headErr := s.Head(t.Context(), "k")
			if c.want == "" {
				if err != nil || headErr != nil || obj.Size != int64(c.size) {
					t.Fatalf("Put: %v; the object is %+v, %v", err, obj, headErr)
				}
			} else {
				expect(t, err, "upload s3://lake/"+prefix+"/k: ", c.want)
				if !errors.Is(headErr, store.ErrNotExist) {
					t.Errorf("the object exists after a failed upload: %v", headErr)
				}
			}
			if left := unfinished(t, server, prefix); len(left) > 0 {
				t.Errorf("unfinished uploads remain: %q", left)
			}
			// What a fault has taught the store must not last.
			if err := put(t, s, "again", 10); err != nil {
				t.Fatal(err)
			}
			if err := put(t, s, "again", 10); !errors.Is(err, store.ErrExists) {
				t.Errorf("a further upload replaces an object: %v", err)
			}
		})
	}
}

// expect checks that the text of err begins with prefix, and contains want.
func expect(t *testing.T, err error, prefix, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	if !strings.HasPrefix(err.Error(), prefix) || !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %q, want %q and %q", err, prefix, want)
	}
}

// TestExistingObjectIsNotReplacedByParts: the condition is also that of the end of an upload in
// parts, whose parts are removed then.
func TestExistingObjectIsNotReplacedByParts(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, spec(server, "p"), inParts)
	if err := put(t, s, "k", 10); err != nil {
		t.Fatal(err)
	}
	if err := put(t, s, "k", 2*minPart); !errors.Is(err, store.ErrExists) {
		t.Errorf("Put: %v, want ErrExists", err)
	}
	if left := unfinished(t, server, ""); len(left) > 0 {
		t.Errorf("unfinished uploads remain: %q", left)
	}
	if o, err := s.Head(t.Context(), "k"); err != nil || o.Size != 10 {
		t.Errorf("the object is %+v, %v", o, err)
	}
}

// TestConditionIsNotRepeated: after a store has rejected the condition once, requests have none.
func TestConditionIsNotRepeated(t *testing.T) {
	server := s3test.Start(t)
	proxy := server.Proxy(t)
	o := spec(server, "p")
	o.Endpoint = proxy.Endpoint
	s := open(t, o, inParts)
	for i, want := range []int{2, 1, 1} {
		proxy.Set(s3test.Reject)
		if err := put(t, s, "k", 10); err != nil {
			t.Fatal(err)
		}
		if got := proxy.Requests(); len(got) != want {
			t.Errorf("upload %d has the requests %q, want %d", i, got, want)
		}
	}
}

// TestStalledRequestFails: a store that does not respond fails a request of each kind.
func TestStalledRequestFails(t *testing.T) {
	endpoint := fake(t, func(w http.ResponseWriter, r *http.Request) { s3test.Hang(w, r) })
	s := open(t, fakeSpec(t, endpoint), s3.Tuning{Stall: 50 * time.Millisecond})
	_, headErr := s.Head(t.Context(), "k")
	_, openErr := s.Open(t.Context(), "k")
	var listErr error
	for _, err := range s.List(t.Context(), "") {
		listErr = err
	}
	for what, err := range map[string]error{
		"upload": put(t, s, "k", 10), "look up": headErr, "read": openErr, "list": listErr,
		"delete": s.Delete(t.Context(), "k"), "list unfinished uploads of": s.AbortUploads(t.Context(), "k"),
	} {
		expect(t, err, what+" s3://lake/", strings.TrimPrefix(endpoint, "http://")+": no response and no progress for 50ms")
	}
}

// TestStalledContentFails: reading an object fails if the store stops sending it.
func TestStalledContentFails(t *testing.T) {
	endpoint := fake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("begin"))
		w.(http.Flusher).Flush()
		s3test.Hang(w, r)
	})
	s := open(t, fakeSpec(t, endpoint), s3.Tuning{Stall: 50 * time.Millisecond})
	body, err := s.Open(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	expect(t, err, "read s3://lake/p/k: ", "no response and no progress for 50ms")
	if string(data) != "begin" {
		t.Errorf("read %q", data)
	}
}

// TestListContinues: a list has several pages, and a fault between them repeats no object.
func TestListContinues(t *testing.T) {
	server := s3test.Start(t)
	proxy := server.Proxy(t)
	o := spec(server, "p")
	o.Endpoint = proxy.Endpoint
	s := open(t, o, inParts)
	want := []string{"a", "b", "c", "d", "e"}
	for _, key := range want {
		if err := put(t, s, key, 1); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	proxy.Set(func(w http.ResponseWriter, r *http.Request) bool {
		if n++; n == 2 {
			return s3test.Respond(http.StatusInternalServerError, "InternalError", "x")(w, r)
		}
		limit(r, "max-keys", "2")
		return false
	})
	var got []string
	for o, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, o.Key)
	}
	if !slices.Equal(got, want) || n < 4 {
		t.Errorf("List has %q after %d requests, want %q in several pages", got, n, want)
	}
}

func limit(r *http.Request, name, value string) {
	q := r.URL.Query()
	q.Set(name, value)
	r.URL.RawQuery = q.Encode()
}

// TestAbortUploadsReadsAllPages of the list of unfinished uploads.
func TestAbortUploadsReadsAllPages(t *testing.T) {
	pages := map[string]string{
		"":  "<Upload><Key>p/k</Key><UploadId>1</UploadId></Upload><IsTruncated>true</IsTruncated><NextKeyMarker>p/k</NextKeyMarker><NextUploadIdMarker>1</NextUploadIdMarker>",
		"1": "<Upload><Key>p/k</Key><UploadId>2</UploadId></Upload><Upload><Key>p/k2</Key><UploadId>3</UploadId></Upload>",
	}
	var aborted []string
	s := open(t, fakeSpec(t, fake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			aborted = append(aborted, r.URL.Query().Get("uploadId"))
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = io.WriteString(w, "<ListMultipartUploadsResult>"+pages[r.URL.Query().Get("upload-id-marker")]+"</ListMultipartUploadsResult>")
	})), s3.Tuning{})
	if err := s.AbortUploads(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"1", "2"}; !slices.Equal(aborted, want) {
		t.Errorf("the uploads %q were aborted, want %q", aborted, want)
	}
}
