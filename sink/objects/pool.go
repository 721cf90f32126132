package objects

import (
	"context"
	"runtime/pprof"
	"slices"
	"sync"
)

// The pools of this process. Uploads stream, so each needs the memory of a few parts.
var (
	uploads = &pool{limit: 4}
	probes  = &pool{limit: 8}
)

// A pool runs jobs of several sinks in goroutines of their own, a limited number at a time. The
// sinks take turns. A sink whose last job has failed has one job at a time: otherwise a store that
// does not respond would use the whole pool, and delay the sinks of other stores.
type pool struct {
	limit int

	mu     sync.Mutex
	busy   int
	queues []*queue // with jobs that wait; the first has the next turn
}

// A queue has the jobs of one sink.
type queue struct {
	pool *pool
	ctx  context.Context // its labels are those of the goroutines

	// Guarded by pool.mu.
	jobs    []func() bool
	active  int
	failing bool
	closed  bool
	done    sync.WaitGroup // of the jobs that run
}

// add adds a job, which returns whether it has succeeded. It may be called from any
// goroutine, and does nothing after close.
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
	for p.busy < p.limit {
		i := slices.IndexFunc(p.queues, func(q *queue) bool { return q.active == 0 || !q.failing })
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
		p.busy++
		q.active++
		q.done.Go(func() {
			pprof.SetGoroutineLabels(q.ctx)
			ok := job()
			p.mu.Lock()
			defer p.mu.Unlock()
			p.busy--
			q.active--
			q.failing = !ok
			p.start()
		})
	}
}

// close discards the jobs that wait, and waits for those that run.
func (q *queue) close() {
	q.pool.mu.Lock()
	q.jobs, q.closed = nil, true
	q.pool.queues = slices.DeleteFunc(q.pool.queues, func(other *queue) bool { return other == q })
	q.pool.mu.Unlock()
	q.done.Wait()
}
