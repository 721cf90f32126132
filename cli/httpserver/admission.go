package httpserver

import (
	"fmt"
	"net/http"
	"time"
)

// A Class is a kind of requests with limits of its own.
type Class uint8

// The classes of requests.
const (
	Other   Class = iota
	Scrape        // of metrics, which must succeed however many other requests there are
	Health        // never limited; its handlers must not wait for anything that other requests hold
	classes = iota - 1
)

const (
	// atOnce is how many requests of a class are processed at the same time. It bounds the
	// memory for responses.
	atOnce = 4
	// admissionTimeout is how long a further request waits before it is rejected.
	admissionTimeout = 2 * time.Second
	// classShare is the part of the connections that the requests of one class may use: the
	// listener can close half of the connections for a health check at any time.
	classShare = 2 * classes
)

// Admit limits how many requests are in progress: clients cannot use up the connections and
// the memory of the server, however many they are and however slowly they read. A request
// beyond a limit gets 503 with Retry-After. A client that reads a response too slowly is
// disconnected.
func Admit(h http.Handler, connections int, class func(*http.Request) Class) http.Handler {
	var limits [classes]admission
	for c := range limits {
		share := max(connections/classShare, 1)
		limits[c] = admission{admitted: make(chan struct{}, share), processed: make(chan struct{}, min(atOnce, share))}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w = &paced{ResponseWriter: w, control: http.NewResponseController(w), end: time.Now().Add(writeTimeout)}
		c := class(r)
		if c == Health {
			h.ServeHTTP(w, r)
			return
		}
		if !limits[c].enter(r) {
			reject(w, "too many requests at a time: retry later")
			return
		}
		defer limits[c].leave()
		h.ServeHTTP(w, r)
	})
}

// An admission limits the requests of one class.
type admission struct {
	admitted  chan struct{} // has a token for each request that is processed or waits
	processed chan struct{} // has a token for each request that is processed
}

// enter waits until the request may be processed; false means that it must be rejected.
func (a *admission) enter(r *http.Request) bool {
	select {
	case a.admitted <- struct{}{}:
	default:
		return false
	}
	timeout := time.NewTimer(admissionTimeout)
	defer timeout.Stop()
	select {
	case a.processed <- struct{}{}:
		return true
	case <-timeout.C:
	case <-r.Context().Done(): // the client has gone
	}
	<-a.admitted
	return false
}

func (a *admission) leave() {
	<-a.processed
	<-a.admitted
}

// reject responds with 503 and an error. The message must be printable ASCII.
func reject(w http.ResponseWriter, message string) {
	h := w.Header()
	h.Set("Retry-After", "1")
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = fmt.Fprintf(w, "{\"error\": %q}\n", message)
}

// partSize and partTimeout require that a client reads 13 KB a second.
const (
	partSize    = 64 << 10
	partTimeout = 5 * time.Second
)

// A paced response has a deadline for each of its parts, and one for the whole.
type paced struct {
	http.ResponseWriter
	control *http.ResponseController
	end     time.Time
}

// Write implements [io.Writer].
func (w *paced) Write(p []byte) (int, error) {
	written := 0
	for {
		deadline := time.Now().Add(partTimeout)
		if deadline.After(w.end) {
			deadline = w.end
		}
		_ = w.control.SetWriteDeadline(deadline) // fails for a connection that is closed
		part := p[written:min(written+partSize, len(p))]
		n, err := w.ResponseWriter.Write(part)
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// Unwrap is for [http.ResponseController].
func (w *paced) Unwrap() http.ResponseWriter { return w.ResponseWriter }
