package gcs

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"kcagent/sink"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/store/storetest"
)

// TestUploadContinuesAfterAnInterruption: the store keeps only a piece of a part, loses a response,
// or fails. The object is complete, and what the store has is not sent again.
func TestUploadContinuesAfterAnInterruption(t *testing.T) {
	content := make([]byte, 4*256<<10+77)
	_, _ = rand.Read(content)
	for name, interrupt := range map[string]func(w http.ResponseWriter, part int) bool{
		"part is kept in pieces": func(http.ResponseWriter, int) bool { return true },
		"status 503":             func(w http.ResponseWriter, _ int) bool { w.WriteHeader(503); return false },
		"connection is closed":   func(http.ResponseWriter, int) bool { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			u := &resumable{t: t, size: len(content), interrupt: interrupt}
			server := storetest.Serve(t, u.ServeHTTP)
			u.url = server.URL
			s := openStore(t, sink.ObjectsSpec{URL: "gs://b", Endpoint: server.URL})
			if err := s.Put(t.Context(), "k", strings.NewReader(string(content)), int64(len(content)), store.Attributes{Meta: map[string]string{"kcagentfirst": "1"}}); err != nil {
				t.Fatal(err)
			}
			if string(u.received) != string(content) {
				t.Errorf("the store has %d bytes, want the %d of the object", len(u.received), len(content))
			}
			if u.description.Metadata["kcagentfirst"] != "1" || u.description.Name != "k" {
				t.Errorf("the object was described as %+v", u.description)
			}
		})
	}
}

// TestDroppedUploadIsReported: an upload that the store has forgotten is not a missing bucket.
func TestDroppedUploadIsReported(t *testing.T) {
	server := storetest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Location", "http://"+r.Host+"/session")
			return
		}
		failWith(410, "", "gone")(w, r)
	})
	s := openStore(t, sink.ObjectsSpec{URL: "gs://b", Endpoint: server.URL})
	err := storetest.PutText(s, "k", strings.Repeat("x", 300<<10))
	if want := "upload gs://b/k: the store has dropped the unfinished upload; it begins again"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestOtherHostsGetNoCredentials: the store gives the URL of a resumable upload, which needs no
// credentials. If it leads to another host, that host does not get them.
func TestOtherHostsGetNoCredentials(t *testing.T) {
	var sent []string
	other := storetest.Serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		sent = append(sent, "other: "+r.Header.Get("Authorization"))
	})
	server := storetest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, "store: "+r.Header.Get("Authorization"))
		w.Header().Set("Location", other.URL+"/session")
	})
	s := openStore(t, sink.ObjectsSpec{URL: "gs://b", Endpoint: server.URL})
	s.tokens = fixedTokens{}
	if err := storetest.PutText(s, "k", strings.Repeat("x", 300<<10)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(sent, ", "); got != "store: Bearer token, other: " && got != "store: Bearer token, other: , other: " {
		t.Errorf("the hosts got %q", got)
	}
}

// resumable is a store that interrupts each part of an upload once.
type resumable struct {
	t         *testing.T
	url       string
	size      int
	interrupt func(w http.ResponseWriter, part int) (answer bool)

	mu          sync.Mutex
	description resource
	received    []byte
	parts       int
	interrupted bool // the last part
}

var contentRange = regexp.MustCompile(`^bytes (?:(\d+)-(\d+)|\*)/(\d+)$`)

func (u *resumable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r.Method == http.MethodPost {
		if r.URL.Query().Get("ifGenerationMatch") != "0" {
			u.t.Errorf("the upload replaces an object: %s", r.URL)
		}
		_ = json.NewDecoder(r.Body).Decode(&u.description)
		w.Header().Set("Location", u.url+"/session")
		return
	}
	found := contentRange.FindStringSubmatch(r.Header.Get("Content-Range"))
	if found == nil || found[3] != fmt.Sprint(u.size) {
		u.t.Errorf("Content-Range %q", r.Header.Get("Content-Range"))
		return
	}
	answer := true
	if found[1] != "" {
		if found[1] != fmt.Sprint(len(u.received)) {
			u.t.Errorf("a part begins at %s, and the store has %d bytes", found[1], len(u.received))
		}
		part, _ := io.ReadAll(r.Body)
		if u.interrupted = !u.interrupted; u.interrupted {
			u.parts++
			if len(u.received)+len(part) < u.size { // else the object is complete
				part = part[:len(part)/2]
			}
		}
		u.received = append(u.received, part...)
		if u.interrupted {
			answer = u.interrupt(w, u.parts)
		}
	}
	switch {
	case !answer:
	case len(u.received) == u.size:
		w.WriteHeader(http.StatusOK)
	default:
		if len(u.received) > 0 {
			w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", len(u.received)-1))
		}
		w.WriteHeader(http.StatusPermanentRedirect)
	}
}
