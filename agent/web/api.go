// Package web is the read-only HTTP API: /status, the page, /metrics and /threads. It reads
// snapshots and nothing else, so it responds during the slowest stop.
//
// Metrics are created from the snapshot at each scrape: a terminated consumer leaves no
// series behind, and the hot path has no cost. /threads reads the labels of the goroutine
// profile, which every goroutine of a consumer has, sarama's included.
package web

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kcagent/config"
)

// An API shows what the agent does, over HTTP. It is read-only and reads nothing but
// snapshots, so no request waits for the agent's loop, except /healthz, which is there to
// find out whether the loop responds. All methods may be called from any goroutine.
type API struct {
	o       Options
	ready   atomic.Bool // latched by Ready
	secrets secretHashCache
	diffs   diffCache
	zombies zombieCounter
}

// Options are what an API shows. All but Collectors and DiskSpace are required.
type Options struct {
	Log     *slog.Logger
	Version string
	Started time.Time

	// Snapshot returns what the agent's loop published last; never nil.
	Snapshot func() *Snapshot

	// Alive reports whether the agent's loop responds within timeout.
	Alive func(timeout time.Duration) bool

	// DiskSpace returns the space of the file system to which the file sink with a path writes,
	// in bytes; ok is false if it is unknown. It does not block. Nil means that it is unknown
	// for all.
	DiskSpace func(path string) (free, size uint64, ok bool)

	// Collectors are shown by /metrics beside the API's own.
	Collectors []prometheus.Collector
}

// New returns an API that is ready to use.
func New(o Options) *API { return &API{o: o} }

// aliveTimeout is how long /healthz waits for the loop, which never blocks.
const aliveTimeout = 2 * time.Second

// Handler serves all paths. It rejects other methods than GET and HEAD before it looks
// at the path.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/status", a.serveStatus)
	mux.HandleFunc("/status/{name}", a.serveConsumer)
	mux.HandleFunc("/list-consumers", a.serveConsumers)
	mux.HandleFunc("/threads", a.serveThreads)
	mux.HandleFunc("/monitor-threads", a.serveThreads)
	mux.HandleFunc("/config", a.serveConfig)
	mux.HandleFunc("/config/diff", a.serveConfigDiff)
	mux.HandleFunc("/healthz", a.serveHealth)
	mux.HandleFunc("/readyz", a.serveReady)
	mux.HandleFunc("/{$}", a.servePage)
	mux.HandleFunc("/assets/{file}", servePageAsset)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		replyError(w, r, http.StatusNotFound, "page not found: "+r.URL.Path)
	})
	all := http.NewServeMux()
	all.Handle("/", compress(mux))
	all.Handle("/metrics", promhttp.HandlerFor(a.gatherer(), promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4})) // compresses by itself
	return readOnly(all)
}

func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			replyError(w, r, http.StatusMethodNotAllowed, "method not allowed: use GET or HEAD; to change anything, edit the configuration file")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// totalHeader has the number of all consumers, for clients that request a page of them.
const totalHeader = "X-Total-Count"

func (a *API) serveStatus(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r, statusFields)
	if err != nil {
		replyError(w, r, http.StatusBadRequest, err.Error())
		return
	}
	snap := a.o.Snapshot()
	s := a.status(snap, q)
	w.Header().Set(totalHeader, strconv.Itoa(len(snap.Rows)))
	replySelected(w, r, http.StatusOK, &s, q)
}

func (a *API) serveConsumers(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r, consumerFields)
	if err != nil {
		replyError(w, r, http.StatusBadRequest, err.Error())
		return
	}
	snap := a.o.Snapshot()
	consumers, _, _ := snap.consumers(q, q.fields, false)
	w.Header().Set(totalHeader, strconv.Itoa(len(snap.Rows)))
	replySelected(w, r, http.StatusOK, &consumers, q)
}

func (a *API) serveConsumer(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r, consumerFields)
	if err != nil {
		replyError(w, r, http.StatusBadRequest, err.Error())
		return
	}
	name := r.PathValue("name")
	for _, row := range a.o.Snapshot().Rows {
		if row.Spec.Name == name {
			c := row.read(q.fields)
			s := row.status(&c)
			replySelected(w, r, http.StatusOK, &s, q)
			return
		}
	}
	replyError(w, r, http.StatusNotFound, "consumer not found: "+strings.ToValidUTF8(name, "?"))
}

func (a *API) serveThreads(w http.ResponseWriter, r *http.Request) {
	t, err := a.Threads()
	if err != nil {
		replyError(w, r, http.StatusInternalServerError, err.Error())
		return
	}
	reply(w, r, http.StatusOK, t)
}

func (a *API) serveConfig(w http.ResponseWriter, r *http.Request) {
	snap := a.o.Snapshot()
	if snap.Config == nil {
		replyError(w, r, http.StatusServiceUnavailable, "no configuration was applied yet")
		return
	}
	seals, err := a.secrets.of(snap.Config)
	if err != nil {
		replyError(w, r, http.StatusInternalServerError, err.Error())
		return
	}
	reply(w, r, http.StatusOK, struct {
		Path   string                       `json:"path"`
		SHA256 string                       `json:"sha256"`
		Config any                          `json:"config"`
		Seals  map[string]config.SecretHash `json:"seals,omitempty"`
	}{snap.Reloads.Path, snap.Reloads.SHA256, snap.Config.Normalised(), seals})
}

// A secretHashCache has the hashes of the secrets of the configuration that was requested
// last. They are slow to compute on purpose, so that nobody can guess secrets.
type secretHashCache struct {
	mu     sync.Mutex
	config *config.Config
	hashes map[string]config.SecretHash
}

func (s *secretHashCache) of(c *config.Config) (map[string]config.SecretHash, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config != c {
		hashes, err := c.SecretHashes()
		if err != nil {
			return nil, err
		}
		s.config, s.hashes = c, hashes
	}
	return s.hashes, nil
}

func (a *API) serveHealth(w http.ResponseWriter, r *http.Request) {
	if !a.o.Alive(aliveTimeout) {
		replyError(w, r, http.StatusServiceUnavailable, "the agent's loop does not respond")
		return
	}
	reply(w, r, http.StatusOK, map[string]string{"status": "ok"})
}

func (a *API) serveReady(w http.ResponseWriter, r *http.Request) {
	if !a.Ready() {
		replyError(w, r, http.StatusServiceUnavailable, "no configuration was applied yet, or a consumer has not left STARTING yet")
		return
	}
	reply(w, r, http.StatusOK, map[string]string{"status": "ready"})
}
