package fetch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

// A router asks what is not for one partition's leader: who leads what, and
// which broker coordinates a group. It uses one connection, and one request for
// all topics that are asked for at a time.
type router struct {
	f     *Fetcher
	conn  *conn
	tries int
	asked time.Time            // when the leaders were last asked for
	bad   map[string]time.Time // when an address failed last
	full  bool                 // the brokers did not accept its last connection

	switches int       // how often in a row another broker was asked because leaders stayed unknown
	switchAt time.Time // not before

	refusal error // why no broker answers, assumed to last until then
	until   time.Time
}

// refusalHolds is how long a cluster that refused the credentials is not asked
// again: a thousand consumers that keep asking would lock the account.
const refusalHolds = 5 * time.Second

// lookupPause is the least time between two requests for leaders: consumers that start one
// after the other share them.
const lookupPause = 10 * time.Millisecond

// outageHolds is how long a cluster of which no broker could be reached is not dialled
// again: a thousand consumers share one round of connections.
const outageHolds = time.Second

// lookupWindow is how far ahead of its time the leader of a partition is looked up
// together with others that are due: one request a second is enough for any number of
// partitions without a leader.
const lookupWindow = backoffLast / 4

// routerLinger is how long the router keeps its connection without work. Brokers
// close idle ones too, and then the first request on them would fail.
const routerLinger = 10 * time.Second

// keepRoutes runs until ctx ends.
func (f *Fetcher) keepRoutes(ctx context.Context) {
	r := &router{f: f, bad: make(map[string]time.Time)}
	defer func() { r.hangUp() }()
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
		asks, topics, wait := f.questions(now)
		if len(topics) > 0 {
			r.asked = now
			wait = r.refresh(ctx, topics, asks)
		}
		var groups []*ask
		for _, a := range asks {
			switch {
			case a.group != "":
				groups = append(groups, a)
				wait = 0
			case !a.since.IsZero():
				a.answer(r.list(ctx, a.since))
				wait = 0
			}
		}
		r.coordinators(ctx, groups)
		timer.Reset(wait)
		select {
		case <-f.route:
		case <-timer.C:
			if wait == routerLinger && !r.precious() {
				r.hangUp()
			}
		case <-ctx.Done():
		}
	}
}

// questions are what callers ask and the topics to ask for now, or else how long
// there is nothing to do.
func (f *Fetcher) questions(now time.Time) (asks []*ask, topics []string, wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wait = routerLinger
	asks, f.asks = f.asks, nil
	due := make(map[string]bool)
	for _, a := range asks {
		for _, t := range a.topics {
			due[t] = true
		}
	}
	wait = min(wait, f.dueLookups(now, due))
	oldest := now
	for name, t := range f.topics {
		if now.Sub(t.used) > topicForgotten {
			delete(f.topics, name)
		} else if t.at.Before(oldest) {
			oldest = t.at
		}
	}
	if left := refreshEvery - now.Sub(oldest); left > 0 {
		wait = min(wait, left)
	} else {
		for name, t := range f.topics { // all at once: it is one request
			due[name], t.at = true, now
		}
	}
	for t := range due {
		topics = append(topics, t)
	}
	return asks, topics, wait
}

// dueLookups adds the topics whose leaders are to be looked up now, or returns how long
// there are none. f.mu is held.
func (f *Fetcher) dueLookups(now time.Time, due map[string]bool) (wait time.Duration) {
	wait = routerLinger
	for s := range f.lost {
		wait = min(wait, max(0, s.routeAt.Sub(now)))
	}
	if wait > 0 {
		return wait
	}
	for s := range f.lost {
		if s.routeAt.Sub(now) <= lookupWindow {
			due[s.spec.Topic] = true
		}
	}
	return routerLinger
}

// refresh asks for the leaders of topics, and says when to look again.
func (r *router) refresh(ctx context.Context, topics []string, asks []*ask) time.Duration {
	began := time.Now()
	var meta *sarama.MetadataResponse
	err := r.ask(ctx, func(c *conn) (err error) {
		req := sarama.NewMetadataRequest(c.conf.Version, topics)
		req.AllowAutoTopicCreation = false // a typo must not make a topic
		if meta, err = c.metadata(req, r.f.o.Pin); err == nil && len(meta.Brokers) == 0 {
			err = errors.New("the metadata names no broker")
		}
		return err
	})
	if ctx.Err() != nil {
		err = ErrEnded
	}
	defer func() {
		for _, a := range asks {
			if len(a.topics) > 0 {
				a.answer(err)
			}
		}
	}()
	var told calls
	defer func() { told.run() }()
	var found []found
	if err == nil {
		found = index(meta)
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	if err != nil {
		wait := backoff(r.tries)
		r.tries++
		asked := make(map[string]bool, len(topics))
		for _, t := range topics {
			asked[t] = true
		}
		for s := range r.f.lost {
			if asked[s.spec.Topic] {
				told.add(s.fail(fmt.Errorf("look up leader: %w", err), hopeless(err), began))
				s.routeAt = time.Now().Add(wait)
			}
		}
		return wait
	}
	r.tries = 0
	r.f.learn(meta, found, r.conn.broker.Addr(), &told)
	r.switchBroker(time.Now())
	return 0
}

// switchBroker closes the connection if leaders stay unknown, because another broker may
// know them. It does so less often while no broker knows them. f.mu is held.
func (r *router) switchBroker(now time.Time) {
	stays := false
	for s := range r.f.lost {
		stays = stays || s.tries > 1
	}
	switch {
	case !stays:
		r.switches = 0
	case r.conn != nil && !now.Before(r.switchAt):
		r.bad[r.conn.broker.Addr()] = now
		r.hangUp()
		r.switchAt = now.Add(min(time.Second<<min(r.switches, 10), refreshEvery))
		r.switches++
	}
}

// hopeless is what no other broker answers otherwise.
func hopeless(err error) bool { return errors.Is(err, sarama.ErrSASLAuthenticationFailed) }

// ask makes a request: on the connection at hand, else to the brokers in random
// order, first one by one, until one answers.
func (r *router) ask(ctx context.Context, request func(*conn) error) error {
	r.f.mu.Lock()
	stale := r.f.stale
	r.f.stale = false
	r.f.mu.Unlock()
	if stale {
		r.hangUp()
		r.until = time.Time{}
	}
	if time.Now().Before(r.until) {
		return r.refusal
	}
	if r.conn != nil {
		if err := request(r.conn); err == nil || !ofNetwork(err) {
			return err
		}
		r.hangUp()
	}
	failed := make(map[string]error) // by address
	began := time.Now()
	for left := r.addresses(); len(left) > 0; {
		n := 1
		if time.Since(began) > time.Second {
			n = min(len(left), dialsAtOnce)
		}
		var errs map[string]error
		if r.conn, errs = r.f.dialAny(ctx, left[:n], r.full); r.conn != nil {
			err := request(r.conn)
			if err == nil || !ofNetwork(err) {
				return err
			}
			errs[r.conn.broker.Addr()] = err
			r.hangUp()
		}
		for addr, e := range errs {
			if hopeless(e) {
				r.refusal, r.until = e, time.Now().Add(refusalHolds)
				return e
			}
			failed[addr] = e
			r.bad[addr] = time.Now()
		}
		if ctx.Err() != nil {
			return unreachable(failed)
		}
		left = slices.DeleteFunc(left, func(addr string) bool { return errs[addr] != nil })
	}
	all := unreachable(failed)
	r.full = errors.As(all, new(*FullError))
	r.refusal = fmt.Errorf("reach brokers %s: %w", strings.Join(r.f.o.Brokers, ","), all)
	r.until = time.Now().Add(outageHolds)
	return r.refusal
}

// dialsAtOnce is how many brokers are tried at a time once one has taken its time:
// each that is deaf takes ten seconds, and a consumer that waits for all of them
// would say nothing for minutes.
const dialsAtOnce = 8

// An unreachableError says why no broker answered.
type unreachableError struct {
	each []string
	last error
}

// unreachable joins errors in the order of their keys: brokers and the addresses of a
// name are tried in an order that changes, and the same causes are to have the same text.
func unreachable(failed map[string]error) *unreachableError {
	e := new(unreachableError)
	for _, addr := range slices.Sorted(maps.Keys(failed)) {
		e.each, e.last = append(e.each, failed[addr].Error()), failed[addr]
	}
	return e
}

func (e *unreachableError) Error() string { return strings.Join(e.each, "; ") }
func (e *unreachableError) Unwrap() error { return e.last }

// addresses are the brokers known, then those of the options; those that failed
// lately come last, for one that does not answer takes seconds.
func (r *router) addresses() []string {
	r.f.mu.Lock()
	var known []string
	for _, b := range r.f.brokers {
		known = append(known, b.addr)
	}
	r.f.mu.Unlock()
	rand.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
	for _, i := range rand.Perm(len(r.f.o.Brokers)) {
		if addr := r.f.o.Brokers[i]; !slices.Contains(known, addr) {
			known = append(known, addr)
		}
	}
	slices.SortStableFunc(known, func(a, b string) int { return r.bad[a].Compare(r.bad[b]) })
	return known
}

// precious reports whether the broker might reject the next connection.
func (r *router) precious() bool {
	return r.conn != nil && r.f.links.full(r.conn.broker.Addr())
}

func (r *router) hangUp() {
	if r.conn != nil {
		r.conn.close()
		r.conn = nil
	}
}

func (f *Fetcher) brokerAt(id int32, addr string) *broker {
	b := f.brokers[id]
	if b == nil {
		b = &broker{id: id, addr: addr}
		f.brokers[id] = b
	}
	return b
}
