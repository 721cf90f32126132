package fetch

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"kcagent/retry"
)

// A broker is one that subscriptions fetch from, as the leader or as the nearest replica of a
// partition. f.mu guards it.
type broker struct {
	id    int32
	addr  string // host:port
	subs  []*Subscription
	lanes []*lane
	agenda

	caughtUpAt [2]time.Time // by isolation level: caught-up partitions are not requested again before
	nextEndsAt time.Time    // no end of a partition is looked up before
	spareAt    time.Time    // when the lane beyond Settings.Lanes was last needed
	emptyAt    time.Time    // since when it has no subscription
	recordsAt  time.Time    // when a response last brought records for any subscription
	heldBackAt time.Time    // when a quota or lack of memory last delayed requests, or until when
	retryAt    time.Time    // no request is sent before, after failures to reach it
	failures   int          // to reach it, in a row

	loggedAsReplica bool      // its use as a replica was logged
	loggedErrorAt   time.Time // when its failure as a replica was last logged

	progressAt atomic.Int64 // when a part of a long response last arrived, in Unix nanoseconds; see [wire.Conn.SetProgress]
}

// laneAt returns the lane with the index, nil if it does not run.
func (b *broker) laneAt(index int) *lane {
	for _, l := range b.lanes {
		if l.index == index {
			return l
		}
	}
	return nil
}

// reconnect replaces all connections to the broker, each after its request in flight.
func (b *broker) reconnect() {
	for _, l := range b.lanes {
		l.reconnect = true
		l.wake.Set()
	}
	b.retryAt, b.failures = time.Time{}, 0
}

// removeLane forgets a lane that ends.
func (b *broker) removeLane(l *lane) {
	if i := slices.Index(b.lanes, l); i >= 0 {
		b.lanes = slices.Delete(b.lanes, i, i+1)
	}
}

// allOthersBusy reports whether all lanes other than l have a request in flight.
func (b *broker) allOthersBusy(l *lane) bool {
	return !slices.ContainsFunc(b.lanes, func(o *lane) bool { return o != l && !o.busy })
}

// assignLeader makes b the leader of s.
func (f *Fetcher) assignLeader(s *Subscription, b *broker, epoch int32) {
	s.route.leader, s.route.leaderEpoch, s.route.lost = b.id, epoch, false
	delete(f.lost, s)
	s.moveTo(b)
}

// leaveBroker removes s from its broker.
func (s *Subscription) leaveBroker() {
	b := s.route.broker
	if b == nil {
		return
	}
	b.unlist(s)
	s.route.broker, s.sizing.Barren, s.entry.dirty = nil, false, false
	i, last := s.entry.index, len(b.subs)-1
	b.subs[i] = b.subs[last]
	b.subs[i].entry.index = i
	b.subs[last] = nil
	b.subs = b.subs[:last]
	if last == 0 {
		b.emptyAt = time.Now()
	}
}

// wakeLane wakes an idle lane, because s can be fetched. If the only lane has a long poll in
// flight, a spare lane is started.
func (s *Subscription) wakeLane() {
	if s.route.broker == nil {
		return
	}
	s.touch()
	if s.route.broker.wakeIdleLane() {
		return
	}
	if b, now := s.route.broker, time.Now(); s.f.settings.Lanes == 1 && len(b.lanes) == 1 && b.lanes[0].busy && b.lanes[0].answerBy.Sub(now) > maxLastLongPoll {
		b.spareAt = now
		s.f.wake.Set()
	}
}

// wakeIdleLane makes a lane that had nothing to do plan again. It returns false if there is none.
func (b *broker) wakeIdleLane() bool {
	for _, l := range b.lanes {
		if l.idle {
			l.idle = false
			l.wake.Set()
			return true
		}
	}
	return false
}

// wantedLanes returns how many lanes the broker should have.
func (b *broker) wantedLanes(settings Settings, now time.Time) int {
	if settings.Lanes == 1 && now.Sub(b.spareAt) < laneLinger {
		return 2
	}
	return settings.Lanes
}

// lookUpLeader requests a lookup of the leader of s, after a wait that grows with the failures.
// Meanwhile s is not fetched. It does nothing for a closed subscription: the response would add it
// to a broker, and nothing would remove it.
func (s *Subscription) lookUpLeader(now time.Time) {
	if s.closed {
		return
	}
	s.route.lost = true
	s.f.lost[s] = struct{}{}
	s.touch()
	s.route.lookupAt = now
	if s.health.Failures > 1 {
		s.route.lookupAt = now.Add(backoff(s.health.Failures - 2))
	}
	s.f.metadata.Wake()
}

// Bounds of the waits after errors.
const (
	backoffFirst = 100 * time.Millisecond
	backoffLast  = 5 * time.Second
)

// backoff returns how long to wait after some failures in a row.
func backoff(failures int) time.Duration { return retry.Delay(failures, backoffFirst, backoffLast) }

// fixedByMetadata reports whether a lookup of the leader may end the error: another broker leads
// the partition, or the leader has another epoch.
func fixedByMetadata(err sarama.KError) bool {
	switch err {
	case sarama.ErrNotLeaderForPartition, sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch,
		sarama.ErrLeaderNotAvailable, sarama.ErrReplicaNotAvailable, sarama.ErrUnknownTopicOrPartition,
		sarama.ErrKafkaStorageError, sarama.ErrBrokerNotAvailable:
		return true
	}
	return false
}

// severe reports whether an error does not end by itself.
func severe(err error) bool {
	return err == sarama.ErrTopicAuthorizationFailed || err == sarama.ErrClusterAuthorizationFailed ||
		err == sarama.ErrInvalidTopic
}
