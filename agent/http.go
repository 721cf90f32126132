package agent

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kcagent/config"
)

// aliveTimeout is how long /healthz waits for the loop, which never blocks.
const aliveTimeout = 2 * time.Second

// Handler serves everything the agent shows. Nothing in it changes anything:
// other methods than GET and HEAD are refused before a path is looked at.
func (a *Agent) Handler() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(a.collectors()...)

	mux := http.NewServeMux()
	mux.HandleFunc("/status", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, a.Status()) })
	mux.HandleFunc("/status/{name}", a.serveOne)
	mux.HandleFunc("/list-consumers", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, a.Status().Consumers) })
	mux.HandleFunc("/threads", a.serveThreads)
	mux.HandleFunc("/monitor-threads", a.serveThreads)
	mux.HandleFunc("/config", a.serveConfig)
	mux.HandleFunc("/healthz", a.serveHealth)
	mux.HandleFunc("/readyz", a.serveReady)
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4}))
	mux.HandleFunc("/{$}", servePage)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		replyError(w, http.StatusNotFound, "no such page: "+r.URL.Path)
	})
	return readOnly(mux)
}

func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			replyError(w, http.StatusMethodNotAllowed, "only GET and HEAD: the configuration file is the one control")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (a *Agent) serveOne(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	for _, row := range a.snapshot.Load().rows {
		if row.spec.Name == name {
			snap := row.runner.Snapshot()
			reply(w, http.StatusOK, row.status(&snap))
			return
		}
	}
	replyError(w, http.StatusNotFound, "no consumer is named "+strings.ToValidUTF8(name, "?"))
}

func (a *Agent) serveThreads(w http.ResponseWriter, _ *http.Request) {
	t, err := a.Threads()
	if err != nil {
		replyError(w, http.StatusInternalServerError, err.Error())
		return
	}
	reply(w, http.StatusOK, t)
}

func (a *Agent) serveConfig(w http.ResponseWriter, _ *http.Request) {
	snap := a.snapshot.Load()
	if snap.config == nil {
		replyError(w, http.StatusServiceUnavailable, "no configuration is in force yet")
		return
	}
	seals, err := a.seals.of(snap.config)
	if err != nil {
		replyError(w, http.StatusInternalServerError, err.Error())
		return
	}
	reply(w, http.StatusOK, struct {
		Path   string                 `json:"path"`
		SHA256 string                 `json:"sha256"`
		Config any                    `json:"config"`
		Seals  map[string]config.Seal `json:"seals,omitempty"`
	}{snap.note.path, snap.note.sha, snap.config.Normalised(), seals})
}

// A sealed keeps the seals of the configuration that was asked for last: to
// make them is slow on purpose.
type sealed struct {
	mu     sync.Mutex
	config *config.Config
	seals  map[string]config.Seal
}

func (s *sealed) of(c *config.Config) (map[string]config.Seal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config != c {
		seals, err := c.Seals()
		if err != nil {
			return nil, err
		}
		s.config, s.seals = c, seals
	}
	return s.seals, nil
}

func (a *Agent) serveHealth(w http.ResponseWriter, _ *http.Request) {
	if !a.Alive(aliveTimeout) {
		replyError(w, http.StatusServiceUnavailable, "the agent's loop does not answer")
		return
	}
	reply(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (a *Agent) serveReady(w http.ResponseWriter, _ *http.Request) {
	if !a.Ready() {
		replyError(w, http.StatusServiceUnavailable, "a consumer has not left STARTING yet, or no configuration is in force")
		return
	}
	reply(w, http.StatusOK, map[string]string{"status": "ready"})
}

func reply(w http.ResponseWriter, code int, body any) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)                 // it is no HTML, and people read it
	if err := enc.Encode(body); err != nil { // a value of ours that JSON cannot hold: a defect
		http.Error(w, `{"error": "cannot show this as JSON"}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(text.Bytes()) // the client may be gone; nobody else would care
}

func replyError(w http.ResponseWriter, code int, message string) {
	reply(w, code, map[string]string{"error": message})
}
