// Package agent runs the consumers that a configuration file declares. One loop owns the
// table of consumers and makes it equal to the configuration.
//
// It guarantees:
//   - The loop never blocks: pre-checks and consumers run in goroutines of their own, and
//     the HTTP API reads what the loop published last.
//   - A consumer and its replacement never run at the same time, and no two consumers write
//     to one file, even if one of them does not stop.
//   - A running consumer is stopped for another spec only after a pre-check of that spec.
//   - A file with problems changes nothing.
//
// Start reading at [Agent.Run], then reconcile, which every edit goes through. A change that
// needs a pre-check is a pendingChange. The loop uses consumers through the interface runner,
// so its tests use fake ones and need no Kafka.
package agent

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kcagent/agent/consumer"
	"kcagent/agent/diskspace"
	"kcagent/agent/kafka"
	"kcagent/agent/outage"
	"kcagent/agent/web"
	"kcagent/config"
	"kcagent/config/filewatch"
	"kcagent/retry"
	"kcagent/sink"
	"kcagent/sink/kinds"
)

// Options are what an agent needs. Log is required.
type Options struct {
	Log             *slog.Logger
	Version         string
	StopTimeout     time.Duration    // a consumer that takes longer to stop is a zombie; 0 means 20 s
	ShutdownTimeout time.Duration    // for all consumers, once Run's context has ended; 0 means 25 s
	Files           *filewatch.Files // reports changed files with secrets; nil means that none is watched
	// SetLogLevel applies the log level of each configuration that is accepted; "" means that
	// the file names none. nil ignores it. It must not block.
	SetLogLevel func(config.LogLevel)
}

// An Agent runs consumers. Its methods may be called at any time from any goroutine, and
// none but Run waits for a consumer.
type Agent struct {
	opts Options
	log  *slog.Logger

	// Tests replace both.
	newRunner func(*config.Consumer) runner
	preCheck  preChecker

	clusters *kafka.Clusters
	files    *filewatch.Files
	outages  *outage.Log // and other conditions that last
	disks    *diskspace.Sampler

	// Only Run's goroutine uses these.
	config       *config.Config         // in force; nil before the first valid one
	fingerprints filewatch.Fingerprints // of the files with secrets
	entries      map[string]*entry
	zombies      []*entry
	terminated   []web.Ended
	reloads      web.Reloads
	retry        *time.Timer // for the next pre-check of a change that failed one
	preChecks    sync.WaitGroup

	preChecked chan preCheckResult
	ended      chan *entry // a consumer's goroutine has ended
	overdue    chan *entry // a consumer has not stopped within StopTimeout
	pings      chan chan struct{}
	reopen     retry.Signal
	done       chan struct{} // closed when Run has returned

	snapshot         atomic.Pointer[web.Snapshot]
	api              *web.API
	reconcileSeconds prometheus.Histogram
}

// withVersion returns open with the version of the agent in the options of each sink.
func withVersion(open consumer.OpenSink, version string) consumer.OpenSink {
	return func(ctx context.Context, spec sink.Spec, o sink.Options) (sink.Sink, error) {
		o.Version = version
		return open(ctx, spec, o)
	}
}

// New returns an agent; Run runs it.
func New(o Options) *Agent {
	if o.StopTimeout == 0 {
		o.StopTimeout = 20 * time.Second
	}
	if o.ShutdownTimeout == 0 {
		o.ShutdownTimeout = 25 * time.Second
	}
	if o.SetLogLevel == nil {
		o.SetLogLevel = func(config.LogLevel) {}
	}
	if o.Files == nil {
		o.Files = filewatch.NewFiles(filewatch.Options{})
	}
	clusters := kafka.NewClusters(o.Log)
	outages := outage.NewLog(o.Log)
	open := withVersion(kinds.Open, o.Version)
	a := &Agent{
		opts: o, log: o.Log,
		newRunner: func(spec *config.Consumer) runner { return consumer.New(spec, o.Log, open, clusters, outages) },
		preCheck:  preCheckWith(clusters),

		files:      o.Files,
		clusters:   clusters,
		outages:    outages,
		disks:      diskspace.New(),
		entries:    make(map[string]*entry),
		retry:      time.NewTimer(time.Hour),
		preChecked: make(chan preCheckResult),
		ended:      make(chan *entry),
		overdue:    make(chan *entry),
		pings:      make(chan chan struct{}),
		reopen:     retry.NewSignal(),
		done:       make(chan struct{}),
		reconcileSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "kcagent_reconcile_duration_seconds",
			Help:    "Time to plan an edit and to start its changes.",
			Buckets: []float64{.0001, .001, .01, .1, 1},
		}),
	}
	a.api = web.New(web.Options{
		Log: o.Log, Version: o.Version, Started: time.Now(),
		Snapshot: a.snapshot.Load, Alive: a.Alive, DiskSpace: a.diskSpace, Collectors: []prometheus.Collector{a.reconcileSeconds},
	})
	a.publish()
	return a
}

// sampleInterval is how often rates are measured.
const sampleInterval = 2 * time.Second

// gatherTime is how long the loop waits for further consumers to end and pre-checks to
// finish before it handles them: a thousand at a time cost one round, not one each.
const gatherTime = 5 * time.Millisecond

// Run applies the configurations that it receives from updates until ctx ends, then stops
// every consumer. If the first update has problems, Run returns them, because no consumer
// is running yet that has to be protected; a later one with problems changes nothing. Its
// error names the consumers that did not end cleanly in time.
//
// Run is one goroutine with one select, and nothing in it blocks.
func (a *Agent) Run(ctx context.Context, updates <-chan config.Update) error {
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer a.preChecks.Wait()
	defer close(a.done)
	defer cancel()
	defer a.retry.Stop()
	background.Go(func() { a.disks.Run(ctx) })
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	var gathered <-chan time.Time // nil while nothing is gathered
	for {
		select {
		case <-ctx.Done():
			return a.shutdown()
		case u := <-updates:
			a.accept(u)
			if a.config == nil {
				return u.Problems
			}
		case e := <-a.ended:
			a.handleEnd(e)
			if gathered == nil {
				gathered = time.After(gatherTime)
			}
			continue
		case r := <-a.preChecked:
			a.handlePreCheck(r)
			if gathered == nil {
				gathered = time.After(gatherTime)
			}
			continue
		case <-gathered:
			gathered = nil
		case <-a.retry.C:
		case e := <-a.overdue:
			a.markZombie(e)
		case pong := <-a.pings:
			close(pong)
			continue
		case <-a.reopen:
			for _, e := range a.entries {
				e.runner.Reopen()
			}
			continue
		case now := <-tick.C:
			for _, e := range a.entries {
				e.runner.Sample(now)
			}
			if !a.checkCredentials() {
				continue
			}
		case f := <-a.files.Changes():
			a.updateFingerprints(f)
		}
		a.reconcile(ctx)
		a.publish()
	}
}

func (a *Agent) diskSpace(path string) (free, size uint64, ok bool) {
	s, ok := a.disks.Space(path)
	return s.Free, s.Size, ok
}

// Reopen makes every sink check whether its files were moved away, and open new ones, as a
// program that rotates files requires. It also checks the files with secrets. It does not
// wait.
func (a *Agent) Reopen() {
	a.files.Check()
	a.reopen.Set()
}

// Alive reports whether the loop responds within timeout. It returns false at once when Run
// has returned.
func (a *Agent) Alive(timeout time.Duration) bool {
	pong := make(chan struct{})
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case a.pings <- pong:
		return true
	case <-a.done:
	case <-t.C:
	}
	return false
}

// Summary returns the configuration and the number of consumers by status, without the rest.
func (a *Agent) Summary() web.Status { return a.api.Summary() }

// Handler serves the HTTP API.
func (a *Agent) Handler() http.Handler { return a.api.Handler() }
