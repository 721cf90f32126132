package fetch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kcagent/fetch/dial"
	"kcagent/fetch/wire"
	"kcagent/retry"
)

// A lane is one connection to one broker, and the goroutine that uses it. Only this goroutine uses
// conn and answered. f.mu guards the other fields.
type lane struct {
	f     *Fetcher
	b     *broker
	index int
	wake  retry.Signal // there may be something to do

	conn     *wire.Conn // nil if there is no connection
	answered bool       // a response arrived over conn

	reconnect   bool // the connection has to be replaced before the next request
	idle        bool // the last plan had nothing to do
	outOfMemory bool // the last plan lacked memory
	busy        bool // a request is in flight
	askedEnds   bool // the last job was an endsJob

	answerBy  time.Time // when the long poll in flight ends at the latest
	shortWait bool      // it is shorter than MaxWait, because another lane takes its partitions over
	postponed bool      // the last plan waited for the short waits of other lanes
}

// A job is what a lane does next: a few requests for some subscriptions.
type job interface {
	// send sends the requests and applies the responses. It is called without f.mu.
	send(l *lane) error
	// participants are the subscriptions that are in flight with the job.
	participants() []participant
	// release gives unused memory back. It is called with f.mu held, and may be called twice.
	release()
}

// A participant is a subscription that is in flight with a job.
type participant struct {
	*Subscription
	seq int // request.seq when the job was planned
}

// addToRequest puts s in flight with a job.
func addToRequest(s *Subscription, now time.Time) participant {
	s.request.inFlight = true
	s.request.sentAt = now
	s.touch()
	return participant{s, s.request.seq}
}

// finish reports whether the response is still wanted. If so, p is no longer in flight.
func (p participant) finish() bool {
	if p.closed || p.Subscription.request.seq != p.seq {
		return false
	}
	p.request.inFlight = false
	p.touch()
	return true
}

// run executes jobs until ctx is done or the lane is no longer needed.
func (l *lane) run(ctx context.Context) {
	defer l.disconnect()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		j, wait := l.nextJob(time.Now())
		switch {
		case j != nil:
			l.execute(ctx, j)
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

// nextJob returns the next job, or else how long there is nothing to do. A negative wait means that
// the lane is no longer needed.
func (l *lane) nextJob(now time.Time) (job, time.Duration) {
	f, b := l.f, l.b
	var later callbacks
	defer func() { later.run() }()
	f.mu.Lock()
	defer f.mu.Unlock()
	l.idle, l.outOfMemory, l.busy, l.shortWait, l.answerBy = false, false, false, false, now
	if len(b.subs) == 0 && now.Sub(b.emptyAt) > laneLinger || l.index >= b.wantedLanes(f.settings, now) {
		b.removeLane(l)
		f.sizeBudget()
		return nil, -1
	}
	if wait := b.retryAt.Sub(now); wait > 0 {
		return nil, wait
	}
	p := l.plan(now, &later)
	if f.audit != nil {
		f.audit(b)
	}
	if p.job == nil {
		l.idle = true
		return nil, max(p.wait, time.Millisecond)
	}
	l.busy = true
	if b.resting.first() != nil { // its rest may end before this lane is back
		b.wakeIdleLane()
	}
	if l.index >= f.settings.Lanes {
		b.spareAt = now
	}
	return p.job, 0
}

// A plan is a job, or how long to wait if that is nil.
type plan struct {
	job
	wait time.Duration
}

// plan chooses the next job. Lookups of positions come before records, because they are small and
// a consumer waits for each.
func (l *lane) plan(now time.Time, later *callbacks) plan {
	b := l.b
	b.updateStates(now)
	p := plan{wait: laneLinger}
	if s := b.resting.first(); s != nil {
		p.wait = min(p.wait, s.request.retryAt.Sub(now))
	}
	if len(b.agenda.lookup) > 0 {
		p.job = l.planLookups(now)
		return p
	}
	if !l.askedEnds || b.fetchable() == 0 {
		if j := l.planEnds(now); j != nil {
			l.askedEnds = true // over a slow line, the next one would be due at the end of this one
			p.job = j
			return p
		}
	}
	if p.wait = min(p.wait, l.f.endsInterval); b.nextEndsAt.After(now) {
		p.wait = min(p.wait, b.nextEndsAt.Sub(now))
	}
	if b.fetchable() == 0 {
		return p
	}
	l.askedEnds = false
	return l.planFetch(now, p.wait, later)
}

// execute runs a job and handles its error.
func (l *lane) execute(ctx context.Context, j job) {
	began := time.Now()
	err := l.attempt(ctx, j)
	var later callbacks
	defer func() { later.run() }()
	f := l.f
	f.mu.Lock()
	defer f.mu.Unlock()
	j.release()
	switch {
	case err == nil:
		l.b.failures = 0
		return
	case ctx.Err() != nil:
		return
	case errors.As(err, new(dial.ResponseError)):
		isolateBadPartition(j, err, &later)
		return
	}
	now := time.Now()
	l.b.retryAt = now.Add(backoff(l.b.failures))
	l.b.failures++
	for _, p := range j.participants() {
		if !p.finish() {
			continue
		}
		if p.onReplica() {
			p.abandonReplica(err, now, &later)
			continue
		}
		later.add(p.fail(err, wire.LoginRejected(err), began))
		p.lookUpLeader(now)
	}
	l.b.returnAllToLeaders(err, now, &later)
	if e, ok := j.(*endsJob); ok {
		e.lookUpLeaders(l.b, now)
	}
}

// isolateBadPartition handles a response that cannot be read, without knowing which partition is
// the cause. The participants of a fetch are requested one by one, until one is alone with the
// error. Other errors concern all participants.
func isolateBadPartition(j job, err error, later *callbacks) {
	now := time.Now()
	_, records := j.(*fetchJob)
	type position struct {
		wire.TopicPartition
		offset int64
	}
	positions := make(map[position]bool)
	for _, p := range j.participants() {
		positions[position{p.topicPartition(), p.cursor.FetchOffset}] = true
	}
	for _, p := range j.participants() {
		if !p.finish() {
			continue
		}
		p.sizing.Alone = records
		if p.onReplica() {
			p.abandonReplica(err, now, later)
			continue
		}
		if len(positions) == 1 || !records {
			later.add(p.fail(fmt.Errorf("read %s/%d at offset %d: %w", p.spec.Topic, p.spec.Partition, p.cursor.FetchOffset, err), true, now))
			p.request.retryAt = now.Add(backoff(p.health.Failures + 3))
		}
	}
}

// attempt connects if necessary and runs the job. If the broker has closed an idle connection, the
// job is run again at once over a new one.
func (l *lane) attempt(ctx context.Context, j job) error {
	l.f.mu.Lock()
	addr, reconnect := l.b.addr, l.reconnect
	l.reconnect = false
	l.f.mu.Unlock()
	if reconnect || l.conn != nil && l.conn.Addr() != addr {
		l.disconnect()
	}
	for {
		fresh := l.conn == nil
		if fresh {
			c, err := l.f.opener.Open(ctx, addr, true)
			if err != nil {
				return err
			}
			c.SetProgress(&l.b.progressAt)
			l.conn, l.answered = c, false
		}
		err := j.send(l)
		if err == nil {
			l.answered = true
			return nil
		}
		again := !fresh && l.answered && wire.IsConnectionError(err) && !retry.TimedOut(err)
		l.disconnect()
		if !again {
			return err
		}
	}
}

// disconnect closes the connection, if there is one.
func (l *lane) disconnect() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// longPoll returns how long the broker may hold back the response to a request for caught-up
// partitions. A lane that waits for a response can request nothing else. So the last free lane
// keeps its wait short, and other lanes with a short wait end theirs at the same time. One of them
// then requests the partitions of all. As long as nothing happens, one lane waits for all
// partitions, and the others are free.
func (l *lane) longPoll(now time.Time, wait time.Duration) time.Duration {
	b := l.b
	if b.allOthersBusy(l) {
		if s := b.away.first(); s != nil {
			wait = min(wait, max(minLongPoll, now.Sub(s.request.recordsAt))) // as long as the consumer has been away
		}
		if len(b.lanes) > 1 {
			wait = min(wait, maxLastLongPoll)
		}
	}
	for _, o := range b.lanes {
		if left := o.answerBy.Sub(now); o != l && o.busy && o.shortWait && left > 0 {
			wait = min(wait, left)
		}
	}
	l.answerBy, l.shortWait = now.Add(wait), wait < l.f.settings.MaxWait
	return wait
}

// waitsForOthers reports, at most once in a row, that a short wait of another lane ends soon: one
// request for the partitions of both lanes is enough then.
func (l *lane) waitsForOthers(now time.Time) bool {
	postponed := l.postponed
	l.postponed = false
	for _, o := range l.b.lanes {
		if o != l && o.busy && o.shortWait && o.answerBy.Sub(now) <= gatherTime {
			l.postponed = !postponed
		}
	}
	return l.postponed
}
