package fetch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch/dial"
	"kcagent/fetch/wire"
	"kcagent/retry"
)

// A lane is one connection to one broker and the goroutine that uses it. Its
// own goroutine alone uses conn and answered; f.mu guards the rest.
type lane struct {
	f        *Fetcher
	b        *broker
	index    int
	wake     retry.Signal
	conn     *wire.Conn
	answered bool // a response came over conn

	stale   bool // the connection is to be made anew
	waiting bool // there was nothing to do
	short   bool // there was no memory
	working bool // a request is in flight
	looked  bool // the last job was a look at where partitions end

	until time.Time // when the broker answers the request at the latest, its way aside
	brief bool      // the wait is shorter than max_wait, because another lane takes over
	held  bool      // a request was put off until the other lanes' brief ones have ended
}

// A job is one thing to ask the broker.
type job interface {
	// ask sends the requests and takes in the answers. It is called without
	// f.mu.
	ask(l *lane) error
	// members are those that the job was made for.
	members() []member
	// done gives the memory back that the job was granted. It is called with
	// f.mu, and may be called twice.
	done()
}

// A member is a subscription that takes part in a job.
type member struct {
	*Subscription
	seq int
}

// enlist makes s a member.
func enlist(s *Subscription, now time.Time) member {
	s.inFlight = true
	s.polled = now
	s.touch()
	return member{s, s.seq}
}

// current reports that the answer is still wanted, and ends the flight if so.
func (m member) current() bool {
	if m.closed || m.Subscription.seq != m.seq {
		return false
	}
	m.inFlight = false
	m.touch()
	return true
}

// run asks until ctx ends or the lane is not needed any more.
func (l *lane) run(ctx context.Context) {
	defer l.hangUp()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		j, wait := l.next(time.Now())
		switch {
		case j != nil:
			l.do(ctx, j)
		case wait < 0:
			return
		default:
			timer.Reset(wait)
			select {
			case <-l.wake:
			case <-timer.C:
			case <-ctx.Done():
			}
		}
	}
}

// next says what to ask now, or how long there is nothing to ask; less than
// zero if the lane is not needed any more.
func (l *lane) next(now time.Time) (job, time.Duration) {
	f, b := l.f, l.b
	var told calls
	defer func() { told.run() }()
	f.mu.Lock()
	defer f.mu.Unlock()
	l.waiting, l.short, l.working, l.brief, l.until = false, false, false, false, now
	if len(b.subs) == 0 && now.Sub(b.emptyAt) > laneLinger || l.index >= b.laneCount(f.set, now) {
		b.remove(l)
		f.sizeBudget()
		return nil, -1
	}
	if wait := b.retryAt.Sub(now); wait > 0 {
		return nil, wait
	}
	j := l.plan(now, &told)
	if f.audit != nil {
		f.audit(b)
	}
	if j.job == nil {
		l.waiting = true
		return nil, max(j.wait, time.Millisecond)
	}
	l.working = true
	if b.rest.first() != nil { // what rests may be due before this lane is back
		b.wakeOne()
	}
	if l.index >= f.set.Lanes {
		b.spareAt = now
	}
	return j.job, 0
}

// A plan is what to ask now or how long to wait.
type plan struct {
	job
	wait time.Duration
}

// plan chooses: a position comes before records, for it is a small thing that a
// consumer waits for.
func (l *lane) plan(now time.Time, told *calls) plan {
	b := l.b
	b.settle(now)
	p := plan{wait: laneLinger}
	if s := b.rest.first(); s != nil {
		p.wait = min(p.wait, s.retryAt.Sub(now))
	}
	if len(b.unsure) > 0 {
		p.job = l.lookup(now)
		return p
	}
	if !l.looked || b.asks() == 0 {
		if j := l.ends(now); j != nil {
			l.looked = true // over a slow line the next one is due when this one has been answered
			p.job = j
			return p
		}
	}
	p.wait = min(p.wait, l.f.endsEvery)
	if b.asks() == 0 {
		return p
	}
	l.looked = false
	return l.request(now, p.wait, told)
}

// do makes sure of the connection and asks. A connection that was good before
// may have been closed by the broker as idle; then the request is sent again at
// once on a new one.
func (l *lane) do(ctx context.Context, j job) {
	began := time.Now()
	err := l.try(ctx, j)
	var told calls
	defer func() { told.run() }()
	f := l.f
	f.mu.Lock()
	defer f.mu.Unlock()
	j.done()
	switch {
	case err == nil:
		l.b.tries = 0
		return
	case ctx.Err() != nil:
		return
	case errors.As(err, new(dial.ResponseError)):
		blame(j, err, &told)
		return
	}
	now := time.Now()
	l.b.retryAt = now.Add(backoff(l.b.tries))
	l.b.tries++
	for _, m := range j.members() {
		if !m.current() {
			continue
		}
		if m.follows() {
			m.fallBack(err, now, &told)
			continue
		}
		told.add(m.fail(err, errors.Is(err, sarama.ErrSASLAuthenticationFailed), began))
		m.lose(now)
	}
	l.b.desert(err, now, &told)
	if e, ok := j.(*endsJob); ok {
		e.lose(l.b, now)
	}
}

// blame finds out whose records cannot be read: the members of a request are
// asked for one by one, until one is alone with the error. An answer about
// offsets concerns all of them.
func blame(j job, err error, told *calls) {
	now := time.Now()
	_, records := j.(*fetchJob)
	type position struct {
		wire.TopicPartition
		offset int64
	}
	positions := make(map[position]bool)
	for _, m := range j.members() {
		positions[position{m.topicPartition(), m.pos}] = true
	}
	for _, m := range j.members() {
		if !m.current() {
			continue
		}
		m.alone = records
		if m.follows() {
			m.fallBack(err, now, told)
			continue
		}
		if len(positions) == 1 || !records {
			told.add(m.fail(fmt.Errorf("read %s/%d at offset %d: %w", m.spec.Topic, m.spec.Partition, m.pos, err), true, now))
			m.retryAt = now.Add(backoff(m.tries + 3))
		}
	}
}

func (l *lane) try(ctx context.Context, j job) error {
	l.f.mu.Lock()
	addr, stale := l.b.addr, l.stale
	l.stale = false
	l.f.mu.Unlock()
	if stale || l.conn != nil && l.conn.Addr() != addr {
		l.hangUp()
	}
	for {
		fresh := l.conn == nil
		if fresh {
			c, err := l.f.opener.Open(ctx, addr, true)
			if err != nil {
				return err
			}
			c.SetProgress(&l.b.heard)
			l.conn, l.answered = c, false
		}
		err := j.ask(l)
		if err == nil {
			l.answered = true
			return nil
		}
		again := !fresh && l.answered && wire.IsConnectionError(err) && !retry.TimedOut(err)
		l.hangUp()
		if !again {
			return err
		}
	}
}

func (l *lane) hangUp() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// remove takes a lane that ends out of the broker's.
func (b *broker) remove(l *lane) {
	for i, o := range b.lanes {
		if o == l {
			b.lanes = append(b.lanes[:i:i], b.lanes[i+1:]...)
			return
		}
	}
}

// patience is how long the broker may hold back the answer to a request for partitions
// without news. A lane that waits for the answer can ask for nothing else. So the last
// free lane keeps its wait short. The other lanes end theirs with it, and one of them
// then asks for the partitions of both: as long as nothing happens, one lane waits for
// all partitions and the others are free.
func (l *lane) patience(now time.Time, wait time.Duration) time.Duration {
	b := l.b
	if b.lastFree(l) {
		if s := b.away.first(); s != nil {
			wait = min(wait, max(shortWait, now.Sub(s.gotAt))) // as long again as the consumer has been away
		}
		if len(b.lanes) > 1 {
			wait = min(wait, lastWait)
		}
	}
	for _, o := range b.lanes {
		if left := o.until.Sub(now); o != l && o.working && o.brief && left > 0 {
			wait = min(wait, left)
		}
	}
	l.until, l.brief = now.Add(wait), wait < l.f.set.MaxWait
	return wait
}

// gathers reports, once, that a brief request of another lane ends now: one request for
// the partitions of both is enough.
func (l *lane) gathers(now time.Time) bool {
	held := l.held
	l.held = false
	for _, o := range l.b.lanes {
		if o != l && o.working && o.brief && o.until.Sub(now) <= gatherTime {
			l.held = !held
		}
	}
	return l.held
}
