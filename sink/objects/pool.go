package objects

import (
	"context"
	"net/url"
	"runtime/pprof"
	"slices"
	"sync"
	"time"

	"kcagent/sink"
)

// The pools of this process. Uploads stream, so each needs the memory of a few parts.
var (
	uploads = &pool{limit: 4}
	probes  = &pool{limit: 8}
)

// A pool runs jobs of several sinks in goroutines of their own, a limited number at a time. The
// sinks take turns. A sink whose last job has failed has one job at a time. Jobs that take long, and
// jobs of servers that do not respond, have limits of their own; otherwise they would delay the sinks
// of other servers.
type pool struct {
	limit int // of the jobs at a time: of all, without slow ones and trials, of one server, and of all trials

	mu      sync.Mutex
	busy    int             // running jobs, without slow ones and trials
	slow    int             // running jobs that have taken stallTime
	trials  int             // running jobs that have begun while their server was stalled, without slow ones
	late    []*runningJob   // that have taken stallTime while there were too many slow ones, by age
	servers map[string]int  // running jobs of each server
	stalled map[string]bool // servers whose last job has failed after stallTime
	queues  []*queue        // with jobs that wait; the first has the next turn
}

// stallTime is the time after which a failed job means that its server does not respond, and after
// which a running job is slow. A server that rejects a request does so sooner.
const stallTime = 5 * time.Second

// maxSlow is how many slow jobs a pool has for each job that it may run otherwise.
const maxSlow = 4

// A runningJob is a job that a goroutine runs.
type runningJob struct {
	count *int // that it is part of: busy, slow or trials of the pool; nil once it has ended
}

// serverOf returns a text that identifies the server of a store.
func serverOf(s sink.ObjectsSpec) string {
	u, err := url.Parse(s.URL)
	switch {
	case s.Endpoint != "":
		return s.Endpoint
	case err != nil || u.Host == "":
		return s.URL
	}
	return u.Scheme + "://" + u.Host + " " + s.Account
}

// A queue has the jobs of one sink.
type queue struct {
	pool   *pool
	server string
	ctx    context.Context // the goroutines have its labels

	// Guarded by pool.mu.
	jobs    []func() bool
	active  int
	failing bool
	closed  bool
	done    sync.WaitGroup // of the jobs that run
}

// add adds a job, which returns whether it has succeeded. It may be called from any goroutine, and does
// nothing after close.
func (q *queue) add(job func() bool) {
	q.pool.mu.Lock()
	defer q.pool.mu.Unlock()
	if q.closed {
		return
	}
	q.jobs = append(q.jobs, job)
	if len(q.jobs) == 1 {
		q.pool.queues = append(q.pool.queues, q)
	}
	q.pool.start()
}

// start starts the jobs that may run. The caller holds mu.
func (p *pool) start() {
	for {
		i := slices.IndexFunc(p.queues, func(q *queue) bool {
			return *p.running(q) < p.limit && p.servers[q.server] < p.limit && (q.active == 0 || !q.failing)
		})
		if i < 0 {
			return
		}
		q := p.queues[i]
		p.queues = slices.Delete(p.queues, i, i+1)
		job := q.jobs[0]
		q.jobs = q.jobs[1:]
		if len(q.jobs) > 0 {
			p.queues = append(p.queues, q)
		}
		p.run(q, job)
	}
}

// run starts a job. The caller holds mu.
func (p *pool) run(q *queue, job func() bool) {
	if p.servers == nil {
		p.servers = make(map[string]int)
	}
	r := &runningJob{count: p.running(q)}
	*r.count++
	p.servers[q.server]++
	q.active++
	slow := time.AfterFunc(stallTime, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if r.count != nil {
			p.late = append(p.late, r)
			p.moveLate()
			p.start()
		}
	})
	q.done.Go(func() {
		pprof.SetGoroutineLabels(q.ctx)
		began := time.Now()
		ok := job()
		slow.Stop()
		p.mu.Lock()
		defer p.mu.Unlock()
		*r.count--
		r.count = nil
		p.late = slices.DeleteFunc(p.late, func(other *runningJob) bool { return other == r })
		p.moveLate()
		if p.servers[q.server]--; p.servers[q.server] == 0 {
			delete(p.servers, q.server)
		}
		q.active--
		q.failing = !ok
		p.setStalled(q.server, !ok && time.Since(began) >= stallTime)
		p.start()
	})
}

// moveLate makes late jobs slow, as many as may be. Trials are the last: while servers do not respond,
// their trials would otherwise keep other jobs from becoming slow. The caller holds mu.
func (p *pool) moveLate() {
	for len(p.late) > 0 && p.slow < maxSlow*p.limit {
		i := max(0, slices.IndexFunc(p.late, func(r *runningJob) bool { return r.count == &p.busy }))
		r := p.late[i]
		p.late = slices.Delete(p.late, i, i+1)
		*r.count--
		p.slow++
		r.count = &p.slow
	}
}

// running returns the number of running jobs that limits a queue. The caller holds mu.
func (p *pool) running(q *queue) *int {
	if p.stalled[q.server] {
		return &p.trials
	}
	return &p.busy
}

// setStalled records whether a server responds. The caller holds mu.
func (p *pool) setStalled(server string, stalled bool) {
	switch {
	case !stalled:
		delete(p.stalled, server)
	case p.stalled == nil:
		p.stalled = map[string]bool{server: true}
	default:
		p.stalled[server] = true
	}
}

// close discards the waiting jobs, and waits for the running ones.
func (q *queue) close() {
	q.pool.mu.Lock()
	q.jobs, q.closed = nil, true
	q.pool.queues = slices.DeleteFunc(q.pool.queues, func(other *queue) bool { return other == q })
	q.pool.mu.Unlock()
	q.done.Wait()
	q.pool.mu.Lock()
	defer q.pool.mu.Unlock()
	q.pool.setStalled(q.server, false) // another sink of the server finds out again
}
