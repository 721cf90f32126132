// Package agent is what runs: one loop that owns the table of consumers and
// makes it what the configuration says, the consumers themselves, and what
// others may see of them.
package agent

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kcagent/config"
	"kcagent/limits"
	"kcagent/sink/kinds"
)

// Options say how an agent works. The zero value is good but for Log.
type Options struct {
	Log             *slog.Logger
	Version         string
	StopTimeout     time.Duration // after it a consumer that has not stopped is a zombie; 20 s
	ShutdownTimeout time.Duration // for all consumers, once Run's context has ended; 25 s
	Files           *config.Files // tells when files with secrets have changed; nil: nobody does
}

// An Agent keeps a set of consumers as the configuration says. Its methods may
// be called at any time from any goroutine, and none waits for a consumer.
type Agent struct {
	opts    Options
	log     *slog.Logger
	started time.Time

	// Tests replace both.
	newRunner func(config.Consumer) runner
	probe     prober

	clusters *clusters
	files    *config.Files

	// Run's goroutine alone uses these.
	config     *config.Config // the last good one; nil before there was one
	prints     config.Prints  // of the files with secrets
	entries    map[string]*entry
	zombies    []*entry
	terminated []Ended
	note       reloads

	retry   *time.Timer // the next try of a change that failed
	probes  sync.WaitGroup
	probed  chan verdict
	ended   chan *entry // a consumer's goroutine is gone
	overdue chan *entry // a stop took longer than StopTimeout
	pings   chan chan struct{}
	reopen  chan struct{} // capacity 1
	over    chan struct{} // closed when Run has returned

	snapshot         atomic.Pointer[snapshot]
	ready            atomic.Bool // latched by Ready
	seals            sealed
	reconcileSeconds prometheus.Histogram
}

// An entry is one row of the table: what was asked for, and the consumer.
type entry struct {
	spec   config.Consumer // as last asked for
	id     string
	name   string
	runner runner
	cancel context.CancelCauseFunc // nil while no goroutine runs
	ending bool                    // told to terminate or to make room for its replacement
	timer  *time.Timer             // runs while it stops
	since  time.Time               // of being a zombie
	next   *attempt                // a change that is tried first; nil without one

	renewed config.Prints // of the credentials that it was last told to use; nil before
}

func (a *Agent) newEntry(spec config.Consumer) *entry {
	r := a.newRunner(spec)
	return &entry{spec: spec, id: r.Snapshot().ID, name: spec.Name, runner: r}
}

// reloads is what is remembered of the file.
type reloads struct {
	path             string
	sha, fileSHA     string // of the file in force, and of the file as it is now
	problems         config.Problems
	appliedAt        time.Time
	applied, refused int64
}

// New returns an agent; Run runs it.
func New(o Options) *Agent {
	if o.StopTimeout == 0 {
		o.StopTimeout = 20 * time.Second
	}
	if o.ShutdownTimeout == 0 {
		o.ShutdownTimeout = 25 * time.Second
	}
	if o.Files == nil {
		o.Files = config.NewFiles(config.WatchOptions{})
	}
	clusters := &clusters{log: o.Log, rematch: rematchEvery, outages: newOutageLog(o.Log)}
	a := &Agent{
		opts: o, log: o.Log, started: time.Now(),
		newRunner: func(spec config.Consumer) runner { return newConsumer(spec, o.Log, kinds.Open, clusters) },
		probe:     clusters.probe,

		files:    o.Files,
		clusters: clusters,
		entries:  make(map[string]*entry),
		retry:    time.NewTimer(time.Hour),
		probed:   make(chan verdict),
		ended:    make(chan *entry),
		overdue:  make(chan *entry),
		pings:    make(chan chan struct{}),
		reopen:   make(chan struct{}, 1),
		over:     make(chan struct{}),
		reconcileSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "kcagent_reconcile_duration_seconds",
			Help:    "Time to plan an edit and hand out its changes.",
			Buckets: []float64{.0001, .001, .01, .1, 1},
		}),
	}
	a.publish()
	return a
}

// sampleInterval is how often rates are measured.
const sampleInterval = 2 * time.Second

// gatherTime is how long the end or the try of one consumer waits for those of
// others, so that thousands at a time cost one look at the table, not one each.
const gatherTime = 5 * time.Millisecond

// Run takes configurations from updates until ctx ends, then stops every
// consumer. A first update with problems ends it with those problems, for there
// is nothing yet to protect; a later one changes nothing. Its error names the
// consumers that did not end cleanly in time.
//
// It is one goroutine with one select, and nothing in it blocks.
func (a *Agent) Run(ctx context.Context, updates <-chan config.Update) error {
	ctx, cancel := context.WithCancel(ctx)
	defer a.probes.Wait()
	defer close(a.over)
	defer cancel()
	defer a.retry.Stop()
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	var gathered <-chan time.Time // nil while nothing waits
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
			a.forget(e)
			if gathered == nil {
				gathered = time.After(gatherTime)
			}
			continue
		case v := <-a.probed:
			a.judge(v)
			if gathered == nil {
				gathered = time.After(gatherTime)
			}
			continue
		case <-gathered:
			gathered = nil
		case <-a.retry.C:
		case e := <-a.overdue:
			a.giveUp(e)
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
			if !a.renew() {
				continue
			}
		case p := <-a.files.Changes():
			a.learn(p)
		}
		a.reconcile(ctx)
		a.publish()
	}
}

// Reopen has every sink look now whether its file was moved away, and open it
// anew: what a program that rotates files asks for. It does not wait.
//
// It also looks at the files with secrets.
func (a *Agent) Reopen() {
	a.files.Look()
	signal(a.reopen)
}

// accept notes what the watcher found. Problems leave the last good
// configuration in force.
func (a *Agent) accept(u config.Update) {
	n := &a.note
	n.path, n.fileSHA = u.Path, u.SHA256
	if u.Config != nil && a.config != nil {
		if p := Guard(a.config.Consumers, u.Config); p != nil {
			p.File = u.Path
			u.Problems = config.Problems{*p}
		}
	}
	if len(u.Problems) > 0 {
		n.refused++
		n.problems = u.Problems
		for _, p := range u.Problems {
			a.log.Error("configuration rejected", "problem", p.String())
		}
		return
	}
	if n.problems != nil {
		a.log.Info("configuration is good again")
	}
	brokers := make([][]string, 0, len(a.entries))
	for _, e := range a.entries {
		brokers = append(brokers, e.spec.Cluster.Brokers)
	}
	a.clusters.forgetPins(brokers)
	n.applied++
	n.sha, n.appliedAt, n.problems = u.SHA256, u.At, nil
	a.config = u.Config
	limits.Records.SetMaxBatch(int64(u.Config.Limits.MaxBatch))             // fetches in progress keep what they have
	limits.Records.SetBuffers((chunksAtOnce + 1) * len(u.Config.Consumers)) // the chunks, and the data of a frame that is not compressed yet
	a.files.Set(secretFiles(u.Config))
	a.log.Info("configuration accepted", "path", u.Path, "sha256", u.SHA256, "consumers", len(u.Config.Consumers))
}

// reconcile brings the consumers nearer to what is wanted. What cannot be done
// yet, because something still ends, is done in a later round.
func (a *Agent) reconcile(ctx context.Context) {
	began := time.Now()
	made := 0
	for range 3 { // what is replaced while nothing of it runs is created in the second round
		changes := Plan(a.config.Consumers, a.have())
		if len(changes) == 0 {
			break
		}
		for _, c := range changes {
			a.announce(c)
			a.apply(c)
		}
		made += len(changes)
	}
	a.renew()
	a.proceed()
	a.try(ctx)
	a.startAll(ctx)
	if made > 0 {
		a.reconcileSeconds.Observe(time.Since(began).Seconds())
	}
}

func (a *Agent) announce(c Change) {
	a.log.Info("change", "action", string(c.Op), "consumer", c.Name, "fields", strings.Join(c.Fields, ","), "cost", c.Cost())
	if c.Warning != "" {
		a.log.Warn("change may repeat records", "action", string(c.Op), "consumer", c.Name, "reason", c.Warning)
	}
}

// have is what is there, for Plan.
func (a *Agent) have() map[string]Have {
	have := make(map[string]Have, len(a.entries))
	for name, e := range a.entries {
		h := Have{Spec: e.spec, Ending: e.ending}
		if e.next != nil && e.next.change.Op != Reconnect {
			h.Next = &e.next.change.Spec
		}
		have[name] = h
	}
	return have
}

// apply asks for one change and does not wait for it.
func (a *Agent) apply(c Change) {
	e := a.entries[c.Name]
	switch c.Op {
	case Create:
		a.entries[c.Name] = a.newEntry(c.Spec)
	case Terminate:
		a.end(e, StopReason{To: Terminated, Why: "removed from the configuration"})
	case Replace, Resubscribe:
		if e.cancel != nil && e.timer == nil && c.Spec.State != config.Stopped {
			e.attempt(c)
			return
		}
		e.next = nil // nothing runs, or is to: nothing to protect
		a.make(e, c)
	case Stop:
		e.spec, e.next = c.Spec, nil
		e.runner.Update(c.Spec)
		if e.cancel != nil {
			a.stop(e, StopReason{To: Created, Why: "state: stopped"})
		}
	case Keep:
		e.spec, e.next = c.Spec, nil
		e.runner.Update(c.Spec)
	case Start, Pause, Resume, Update:
		if e.next != nil && e.next.change.Op != Reconnect { // all but the state waits with the rest
			e.next.change = compare(e.spec, c.Spec)
			e.adopt(c.Spec.State)
			return
		}
		e.spec = c.Spec
		e.runner.Update(c.Spec)
	}
}
