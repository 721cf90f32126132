// Package metadata looks up the topics of one cluster, the leaders of their partitions, and
// the coordinators of groups.
//
//   - All callers share one connection, and simultaneous callers share one request.
//   - If a cluster cannot be reached, or rejects the credentials, the client sends it no
//     request for some time: callers get the former error.
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

// ErrEnded is what every call returns after Run has returned.
var ErrEnded = errors.New("fetcher has ended")

const (
	// lookupPause is the shortest time between two requests for leaders, so that consumers that
	// start one after the other share them.
	lookupPause = 10 * time.Millisecond
	// linger is how long the client keeps an idle connection. Brokers also close idle
	// connections, and then the first request on one would fail.
	linger = 10 * time.Second
	// backoffFirst and backoffLast bound the waits after failed lookups of leaders.
	backoffFirst = 100 * time.Millisecond
	backoffLast  = 5 * time.Second
)

// A Leaders knows the partitions whose leaders the [Client] has to look up: the subscriptions of a
// fetcher. The client calls it from one goroutine, and holds no lock during the call.
type Leaders interface {
	// Due adds the topics of partitions whose leaders have to be looked up now. If there are
	// none, it returns how long no lookup is needed.
	Due(now time.Time, topics map[string]bool) (wait time.Duration)
	// Addrs returns the addresses of the brokers in use, host:port.
	Addrs() []string
	// Learn applies a response.
	Learn(u *Update)
	// Fail records that the leaders of topics could not be looked up. began is when the failed
	// request was made. They are looked up again after wait.
	Fail(topics map[string]bool, err error, began time.Time, wait time.Duration)
	// Unresolved reports whether the leader of a partition is still unknown after several
	// lookups.
	Unresolved() bool
}

// A Client asks the brokers of one cluster for topics, leaders and coordinators. Its methods are
// safe for concurrent use.
type Client struct {
	opener  *wire.Opener
	brokers []string // addresses to begin with, host:port
	leaders Leaders
	wake    retry.Signal

	mu       sync.Mutex
	ended    bool
	topics   map[string]*topic // in use, by name
	list     topicList
	requests []*request
	stale    bool // the next request uses a new connection
}

// NewClient returns a client that does nothing before Run. brokers are the addresses to begin with,
// host:port.
func NewClient(opener *wire.Opener, brokers []string, leaders Leaders) *Client {
	return &Client{opener: opener, brokers: brokers, leaders: leaders, wake: retry.NewSignal(), topics: make(map[string]*topic)}
}

// Wake makes the client ask its Leaders which lookups are due. It never blocks.
func (c *Client) Wake() { c.wake.Set() }

// Reconnect makes the next request use a new connection.
func (c *Client) Reconnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale = true
}

// A request is one call of Refresh, Topics or Coordinator that waits for a response.
type request struct {
	topics []string  // of Refresh
	group  string    // of Coordinator
	since  time.Time // of Topics: the list must not be older
	done   chan error

	id   int32 // of the coordinator
	addr string
}

func (r *request) answer(err error) { r.done <- err }

// send hands a request to Run and waits for the result.
func (c *Client) send(ctx context.Context, r *request) error {
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

// Run answers requests and looks leaders up until ctx is done. It is called once. When it returns,
// its connection is closed, and all requests fail with [ErrEnded].
func (c *Client) Run(ctx context.Context) {
	l := &loop{
		c:       c,
		conn:    connection{c: c, failedAt: make(map[string]time.Time)},
		backoff: retry.Backoff{First: backoffFirst, Last: backoffLast},
	}
	l.run(ctx)
	l.conn.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for _, r := range c.requests {
		r.answer(ErrEnded)
	}
	c.requests = nil
}

// A loop is the state of the goroutine that calls Client.Run.
type loop struct {
	c           *Client
	conn        connection
	backoff     retry.Backoff // of lookups of leaders
	refreshedAt time.Time     // when leaders were last looked up
}

func (l *loop) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		if left := lookupPause - now.Sub(l.refreshedAt); left > 0 {
			timer.Reset(left)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			continue
		}
		requests, topics, wait := l.c.due(now)
		if len(topics) > 0 {
			l.refreshedAt = now
			wait = l.refresh(ctx, topics, requests)
		}
		var groups []*request
		for _, r := range requests {
			switch {
			case r.group != "":
				groups = append(groups, r)
				wait = 0
			case !r.since.IsZero():
				r.answer(l.listTopics(ctx, r.since))
				wait = 0
			}
		}
		l.findCoordinators(ctx, groups)
		timer.Reset(wait)
		select {
		case <-l.c.wake:
		case <-timer.C:
			if wait == linger && !l.conn.atLimit() {
				l.conn.close()
			}
		case <-ctx.Done():
		}
	}
}

// due returns the requests, and the topics whose metadata to request now, or else how long there is
// nothing to do.
func (c *Client) due(now time.Time) (requests []*request, topics map[string]bool, wait time.Duration) {
	topics = make(map[string]bool)
	wait = min(linger, c.leaders.Due(now, topics))
	c.mu.Lock()
	defer c.mu.Unlock()
	requests, c.requests = c.requests, nil
	for _, r := range requests {
		for _, t := range r.topics {
			topics[t] = true
		}
	}
	return requests, topics, min(wait, c.dueTopics(now, topics))
}

// dueTopics forgets topics that are no longer in use. It adds those in use to topics if one of them
// is due for a refresh, or else returns how long none is. c.mu is held.
func (c *Client) dueTopics(now time.Time, topics map[string]bool) (wait time.Duration) {
	oldest := now
	for name, t := range c.topics {
		if now.Sub(t.usedAt) > forgetAfter {
			delete(c.topics, name)
		} else if t.refreshedAt.Before(oldest) {
			oldest = t.refreshedAt
		}
	}
	if left := refreshInterval - now.Sub(oldest); left > 0 {
		return left
	}
	for name, t := range c.topics { // all of them, because it is one request
		topics[name], t.refreshedAt = true, now
	}
	return linger
}

// Coordinator returns the id and the address of the broker that coordinates a group. Concurrent
// calls do not wait for each other's responses.
func (c *Client) Coordinator(ctx context.Context, group string) (id int32, addr string, err error) {
	r := &request{group: group}
	if err := c.send(ctx, r); err != nil {
		return 0, "", err
	}
	return r.id, r.addr, nil
}

// findCoordinators answers requests for coordinators, with many of them in flight at a time. Sent
// one after the other, as sarama does, a thousand groups that start would wait for a thousand round
// trips.
func (l *loop) findCoordinators(ctx context.Context, requests []*request) {
	for some := range slices.Chunk(requests, wire.MaxPipelined) {
		groups := make([]string, len(some))
		for i, r := range some {
			groups[i] = r.group
		}
		var found []wire.Coordinator
		err := l.conn.do(ctx, func(c *wire.Conn) (err error) {
			found, err = c.FindCoordinators(groups)
			return err
		})
		if err != nil {
			l.conn.close() // responses that are not read may still arrive
		}
		for i, r := range some {
			if err == nil {
				r.id, r.addr = found[i].ID, found[i].Addr
				r.answer(found[i].Err)
			} else {
				r.answer(err)
			}
		}
	}
}
