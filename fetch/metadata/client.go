// Package metadata asks the brokers of one cluster which topics there are, who leads their
// partitions, and which brokers coordinate groups.
//
//   - All callers share one connection, and those that ask at the same time share one request.
//   - A cluster that cannot be reached, or that rejects the credentials, is not asked again
//     for some time: callers get the former error.
//   - A topic is reported as missing, or as recreated, only when two responses agree, because
//     a single broker may have outdated metadata.
//
// Start reading at [Client.Run].
package metadata

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"kcagent/fetch/wire"
	"kcagent/retry"
)

// ErrEnded is what every call returns once Run has returned.
var ErrEnded = errors.New("fetcher has ended")

const (
	// lookupPause is the least time between two requests for leaders: consumers that start
	// one after the other share them.
	lookupPause = 10 * time.Millisecond
	// linger is how long the client keeps its connection without work. Brokers close idle
	// ones too, and then the first request on them would fail.
	linger = 10 * time.Second
)

// Leaders is what a [Client] looks leaders up for: the subscriptions of a fetcher. The client
// calls it from one goroutine, without a lock of its own.
type Leaders interface {
	// Due adds to topics those with a partition whose leader has to be looked up now, or
	// returns how long there is none.
	Due(now time.Time, topics map[string]bool) (wait time.Duration)
	// Addrs returns the addresses of the brokers in use.
	Addrs() []string
	// Learn applies a response.
	Learn(u *Update)
	// Fail handles that the leaders of topics could not be looked up since began. They are
	// looked up again after wait.
	Fail(topics map[string]bool, err error, began time.Time, wait time.Duration)
	// Unresolved reports whether the leader of a partition is still unknown after several
	// lookups.
	Unresolved() bool
}

// A Client asks the brokers of one cluster what is not for one partition's leader: which
// topics there are, who leads their partitions, and which broker coordinates a group. It uses
// one connection, and one request for all topics that are asked for at a time. Its methods
// are safe for concurrent use; only Run blocks for long.
type Client struct {
	opener  *wire.Opener
	brokers []string // addresses to start from
	leaders Leaders
	wake    retry.Signal

	mu       sync.Mutex
	ended    bool
	topics   map[string]*topic // those in use
	list     topicList
	requests []*request
	stale    bool // the connection is to be replaced
}

// NewClient returns a client that does nothing before Run. brokers are the addresses,
// host:port, to ask for the others.
func NewClient(opener *wire.Opener, brokers []string, leaders Leaders) *Client {
	return &Client{opener: opener, brokers: brokers, leaders: leaders, wake: retry.NewSignal(), topics: make(map[string]*topic)}
}

// Wake makes the client ask its Leaders what is due.
func (c *Client) Wake() { c.wake.Set() }

// Reconnect makes the next request use a new connection.
func (c *Client) Reconnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale = true
}

// A request is a question to the cluster.
type request struct {
	topics []string
	group  string
	since  time.Time  // which topics there are, as of then or later; zero: not asked
	done   chan error // capacity 1

	id   int32 // of the coordinator
	addr string
}

func (r *request) answer(err error) { r.done <- err }

// do asks and waits.
func (c *Client) do(ctx context.Context, r *request) error {
	r.done = make(chan error, 1)
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return ErrEnded
	}
	c.requests = append(c.requests, r)
	c.mu.Unlock()
	c.wake.Set()
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run answers requests and looks leaders up until ctx ends. It is called once. When it
// returns, its connection is closed, and every request fails with [ErrEnded].
func (c *Client) Run(ctx context.Context) {
	r := &runner{c: c, conn: connection{c: c, bad: make(map[string]time.Time)}, backoff: retry.Backoff{First: 100 * time.Millisecond, Last: 5 * time.Second}}
	r.run(ctx)
	r.conn.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for _, r := range c.requests {
		r.answer(ErrEnded)
	}
	c.requests = nil
}

// A runner is the goroutine of a Client.
type runner struct {
	c       *Client
	conn    connection
	backoff retry.Backoff // of requests for leaders
	asked   time.Time     // when the leaders were last asked for
}

func (r *runner) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		if left := lookupPause - now.Sub(r.asked); left > 0 {
			timer.Reset(left)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			continue
		}
		requests, topics, wait := r.c.due(now)
		if len(topics) > 0 {
			r.asked = now
			wait = r.refresh(ctx, topics, requests)
		}
		var groups []*request
		for _, q := range requests {
			switch {
			case q.group != "":
				groups = append(groups, q)
				wait = 0
			case !q.since.IsZero():
				q.answer(r.listTopics(ctx, q.since))
				wait = 0
			}
		}
		r.findCoordinators(ctx, groups)
		timer.Reset(wait)
		select {
		case <-r.c.wake:
		case <-timer.C:
			if wait == linger && !r.conn.precious() {
				r.conn.close()
			}
		case <-ctx.Done():
		}
	}
}

// due returns the requests, and the topics to ask for now, or else how long there is nothing
// to do.
func (c *Client) due(now time.Time) (requests []*request, topics map[string]bool, wait time.Duration) {
	topics = make(map[string]bool)
	wait = min(linger, c.leaders.Due(now, topics))
	c.mu.Lock()
	defer c.mu.Unlock()
	requests, c.requests = c.requests, nil
	for _, q := range requests {
		for _, t := range q.topics {
			topics[t] = true
		}
	}
	return requests, topics, min(wait, c.dueTopics(now, topics))
}

// dueTopics forgets topics that are no longer in use, and adds those in use if one is due, or
// returns how long none is. c.mu is held.
func (c *Client) dueTopics(now time.Time, topics map[string]bool) (wait time.Duration) {
	oldest := now
	for name, t := range c.topics {
		if now.Sub(t.used) > topicForgotten {
			delete(c.topics, name)
		} else if t.at.Before(oldest) {
			oldest = t.at
		}
	}
	if left := refreshEvery - now.Sub(oldest); left > 0 {
		return left
	}
	for name, t := range c.topics { // all at once: it is one request
		topics[name], t.at = true, now
	}
	return linger
}

// Coordinator asks which broker coordinates a group. Many calls at a time do not
// wait for each other's answers.
func (c *Client) Coordinator(ctx context.Context, group string) (id int32, addr string, err error) {
	r := &request{group: group}
	if err := c.do(ctx, r); err != nil {
		return 0, "", err
	}
	return r.id, r.addr, nil
}

// findCoordinators answers requests for coordinators, many on the way at a time: a thousand
// groups that start would wait a thousand times for a broker that is far away. sarama's broker
// sends a request only after the answer to the one before.
func (r *runner) findCoordinators(ctx context.Context, requests []*request) {
	for some := range slices.Chunk(requests, wire.MaxPipelined) {
		groups := make([]string, len(some))
		for i, q := range some {
			groups[i] = q.group
		}
		var found []wire.Coordinator
		err := r.conn.ask(ctx, func(c *wire.Conn) (err error) {
			found, err = c.FindCoordinators(groups)
			return err
		})
		if err != nil {
			r.conn.close() // answers may be under way that nobody reads
		}
		for i, q := range some {
			if err == nil {
				q.id, q.addr = found[i].ID, found[i].Addr
				q.answer(found[i].Err)
			} else {
				q.answer(err)
			}
		}
	}
}
