package fetch

import (
	"slices"
	"sync/atomic"
	"time"

	"kcagent/retry"

	"github.com/IBM/sarama"
)

// A broker leads, or led, a partition of a subscription, or is the nearest replica of one.
// f.mu guards it.
type broker struct {
	id    int32
	addr  string
	subs  []*Subscription
	lanes []*lane
	agenda

	idleAt  [2]time.Time // by isolation level: when partitions without news may be asked for again
	endsAt  time.Time    // no partition is due for a look at its end before
	spareAt time.Time    // when the lane beyond the settings was last needed
	near    bool         // it was logged that records are fetched from it as a replica
	toldAt  time.Time    // when it was logged that it failed as one
	emptyAt time.Time    // since when it has no subscription
	movedAt time.Time    // when an answer brought something for any
	heldAt  time.Time    // when a quota or the lack of memory last held requests back, or until when
	retryAt time.Time    // after failures to reach it
	tries   int

	heard atomic.Int64 // Unix nanoseconds of when the middle of an answer came, to about a second
}

func (b *broker) lane(index int) *lane {
	for _, l := range b.lanes {
		if l.index == index {
			return l
		}
	}
	return nil
}

// redial has every connection to the broker made anew.
func (b *broker) redial() {
	for _, l := range b.lanes {
		l.stale = true
		l.wake.Set()
	}
	b.retryAt, b.tries = time.Time{}, 0
}

// lastFree reports that all lanes but l are at work.
func (b *broker) lastFree(l *lane) bool {
	return !slices.ContainsFunc(b.lanes, func(o *lane) bool { return o != l && !o.working })
}

// assign makes b the leader of s.
func (f *Fetcher) assign(s *Subscription, b *broker, epoch int32) {
	s.leader, s.epoch, s.lost = b.id, epoch, false
	delete(f.lost, s)
	s.move(b)
}

// leave takes s from its broker.
func (s *Subscription) leave() {
	b := s.broker
	if b == nil {
		return
	}
	b.unseat(s)
	s.broker, s.void, s.touched = nil, false, false
	i, last := s.index, len(b.subs)-1
	b.subs[i] = b.subs[last]
	b.subs[i].index = i
	b.subs[last] = nil
	b.subs = b.subs[:last]
	if last == 0 {
		b.emptyAt = time.Now()
	}
}

// wakeLane wakes one waiting lane, because s can be fetched. If the only configured lane
// waits for records of others, a spare lane is opened.
func (s *Subscription) wakeLane() {
	if s.broker == nil {
		return
	}
	s.touch()
	if s.broker.wakeOne() {
		return
	}
	if b, now := s.broker, time.Now(); s.f.set.Lanes == 1 && len(b.lanes) == 1 && b.lanes[0].working && b.lanes[0].until.Sub(now) > lastWait {
		b.spareAt = now
		s.f.wake.Set()
	}
}

// wakeOne has one of the lanes that had nothing to ask look again; false if there is none.
func (b *broker) wakeOne() bool {
	for _, l := range b.lanes {
		if l.waiting {
			l.waiting = false
			l.wake.Set()
			return true
		}
	}
	return false
}

// laneCount is how many lanes the broker should have.
func (b *broker) laneCount(set Settings, now time.Time) int {
	if set.Lanes == 1 && now.Sub(b.spareAt) < laneLinger {
		return 2
	}
	return set.Lanes
}

// lose has the leader of s looked up, after a wait that grows with the tries.
func (s *Subscription) lose(now time.Time) {
	s.lost = true
	s.f.lost[s] = struct{}{}
	s.touch()
	s.routeAt = now
	if s.tries > 1 {
		s.routeAt = now.Add(backoff(s.tries - 2))
	}
	s.f.metadata.Wake()
}

// fail notes a trouble of s that began at since. One that is not grave is shown
// only when it lasts. The caller calls what fail returns.
func (s *Subscription) fail(err error, grave bool, since time.Time) (changed func()) {
	if s.failure == nil {
		s.failedSince = since
	}
	s.failure = err
	s.tries++
	s.shown = s.shown || grave || time.Since(s.failedSince) >= hiddenFor
	if s.shown {
		return s.spec.Changed
	}
	return nil
}

// recover notes that s was fetched.
func (s *Subscription) recover() (changed func()) {
	shown := s.shown
	s.failure, s.shown, s.tries = nil, false, 0
	if shown {
		return s.spec.Changed
	}
	return nil
}

const (
	backoffFirst = 100 * time.Millisecond
	backoffLast  = 5 * time.Second
)

// backoff returns the wait before the next attempt, after a number of failures in a row.
func backoff(failures int) time.Duration { return retry.Delay(failures, backoffFirst, backoffLast) }

// moved reports errors that a look at the metadata mends: another broker leads
// the partition, or does so under another epoch.
func moved(err sarama.KError) bool {
	switch err {
	case sarama.ErrNotLeaderForPartition, sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch,
		sarama.ErrLeaderNotAvailable, sarama.ErrReplicaNotAvailable, sarama.ErrUnknownTopicOrPartition,
		sarama.ErrKafkaStorageError, sarama.ErrBrokerNotAvailable:
		return true
	}
	return false
}

// grave reports errors that do not pass by themselves.
func grave(err error) bool {
	return err == sarama.ErrTopicAuthorizationFailed || err == sarama.ErrClusterAuthorizationFailed ||
		err == sarama.ErrInvalidTopic
}
