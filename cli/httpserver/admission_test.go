package httpserver

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestRequestsAreLimitedByClass: four requests of a class are processed at a time, a quarter
// of the connections may be used, and the next one is rejected at once. One that waits is
// rejected after a while, or processed once another one has ended. Neither class limits the
// other, and nothing limits health checks.
func TestRequestsAreLimitedByClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const connections = 32 // eight for each class
		release := make(chan struct{})
		var processed sync.Map
		h := Admit(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			processed.Store(r.URL.Path, true)
			<-release
		}), connections, func(r *http.Request) Class {
			return map[byte]Class{'o': Other, 's': Scrape, 'h': Health}[r.URL.Path[1]]
		})
		var ended sync.Map // path: *httptest.ResponseRecorder
		start := func(ctx context.Context, path string) {
			go func() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, path, http.NoBody))
				ended.Store(path, w)
			}()
			synctest.Wait()
		}
		check := func(when, paths string, wantProcessed bool, wantCode int) {
			t.Helper()
			for path := range strings.FieldsSeq(paths) {
				code := 0
				if w, ok := ended.Load(path); ok {
					code = w.(*httptest.ResponseRecorder).Code
				}
				if _, got := processed.Load(path); got != wantProcessed || code != wantCode {
					t.Errorf("%s: %s is processed: %v, status %d; want %v, %d", when, path, got, code, wantProcessed, wantCode)
				}
			}
		}
		leaving, leave := context.WithCancel(t.Context())
		for path := range strings.FieldsSeq("/o1 /o2 /o3 /o4 /o5 /o6 /o7") {
			start(t.Context(), path)
		}
		start(leaving, "/o8")
		start(t.Context(), "/o9")
		check("a crowd", "/o1 /o2 /o3 /o4", true, 0)
		check("a crowd", "/o5 /o6 /o7 /o8", false, 0)
		check("a crowd", "/o9", false, http.StatusServiceUnavailable)
		rejected, _ := ended.Load("/o9")
		if w := rejected.(*httptest.ResponseRecorder); w.Header().Get("Retry-After") == "" || w.Header().Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(w.Body.String(), `"error"`) {
			t.Errorf("a rejected request gets %v %s", w.Header(), w.Body)
		}
		for path := range strings.FieldsSeq("/s1 /s2 /s3 /s4 /s5 /h1 /h2 /h3 /h4 /h5 /h6 /h7 /h8 /h9") {
			start(t.Context(), path)
		}
		check("other classes", "/s1 /s2 /s3 /s4 /h1 /h2 /h3 /h4 /h5 /h6 /h7 /h8 /h9", true, 0)
		check("other classes", "/s5", false, 0)

		leave()
		synctest.Wait()
		start(t.Context(), "/o10") // in the place of the client that has gone
		check("a client has gone", "/o10", false, 0)

		time.Sleep(admissionTimeout)
		synctest.Wait()
		check("after the timeout", "/o5 /o6 /o7 /o10", false, http.StatusServiceUnavailable)
		start(t.Context(), "/o11")
		release <- struct{}{}
		synctest.Wait()
		close(release)
		synctest.Wait()
		check("released", "/o11", true, http.StatusOK)
	})
}

// TestResponseHasDeadlinesForItsParts: each part of a response must be read within a few
// seconds, and the whole within the server's time.
func TestResponseHasDeadlinesForItsParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slowWriter{ResponseRecorder: httptest.NewRecorder(), eachTakes: 4 * time.Second}
		began := time.Now()
		Admit(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if n, err := w.Write(make([]byte, 8*partSize+1)); n != 8*partSize+1 || err != nil {
				t.Errorf("wrote %d bytes, %v", n, err)
			}
		}), 8, func(*http.Request) Class { return Other }).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
		var got []time.Duration
		for _, d := range w.deadlines {
			got = append(got, d.Sub(began))
		}
		if len(got) != 9 || got[0] != partTimeout || got[1] != w.eachTakes+partTimeout || got[8] != writeTimeout {
			t.Errorf("the deadlines of the parts are %v", got)
		}
		if n := w.Body.Len(); n != 8*partSize+1 {
			t.Errorf("the body has %d bytes", n)
		}
	})
}

// A slowWriter takes a while to send each part.
type slowWriter struct {
	*httptest.ResponseRecorder
	eachTakes time.Duration
	deadlines []time.Time
}

func (w *slowWriter) SetWriteDeadline(d time.Time) error {
	w.deadlines = append(w.deadlines, d)
	return nil
}

func (w *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(w.eachTakes)
	return w.ResponseRecorder.Write(p)
}
