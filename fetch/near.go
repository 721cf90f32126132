package fetch

import (
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
)

// Fetching from the nearest replica (KIP-392). A request to a leader names Settings.Rack,
// and the leader may answer that a follower is nearer. The subscription then fetches from
// that follower for a lease. Everything else is the leader's: where a partition begins and
// ends, and whether a position is out of range.
//
// A follower may be behind its leader or unable to replicate at all, and a leader may
// advise a follower that is down. So the first error returns the subscription to its
// leader, without Rack for some time: a leader that knows the rack sends no records.

// How long a subscription relies on a replica; tests shorten it.
type leaseTimes struct {
	lease  time.Duration // the leader is asked again after that
	trial  time.Duration // a replica that sends none of the records that the leader has is not used after that
	leader time.Duration // no replica is used after an error of one
}

var defaultLease = leaseTimes{lease: time.Minute, trial: 10 * time.Second, leader: 30 * time.Second}

// A near is what a subscription knows of the replica that it fetches from.
type near struct {
	leader    int32     // the id of the leader's broker
	leaseEnds time.Time // if the broker asked is another one
	leasePos  int64     // where the lease began
	onTrial   bool      // the leader had records then, and the replica has brought none
	drained   bool      // the last answer of the replica had no records, whatever the leader has
	nearAt    time.Time // no replica is used before
}

var errBehind = errors.New("its log ends in an older leader epoch")

// follows reports that the broker asked is not the leader.
func (s *Subscription) follows() bool { return s.broker != nil && s.broker.id != s.leader }

// reroute handles an answer that sends s to another broker: the advice of its leader, or an
// error of a replica. It reports whether the answer is one.
func (s *Subscription) reroute(b *kmsg.FetchResponseTopicPartition, now time.Time, told *calls) bool {
	switch {
	case !s.follows():
		if b == nil || b.ErrorCode != 0 || b.PreferredReadReplica < 0 || b.PreferredReadReplica == s.leader {
			return false
		}
		s.highWater, s.stable, s.answered = b.HighWatermark, b.LastStableOffset, now
		s.advised(b.PreferredReadReplica, now, told)
	case b == nil:
		s.fallBack(sarama.ErrIncompleteResponse, now, told)
	case b.ErrorCode == 0 && b.DivergingEpoch.Epoch >= 0:
		// It may not have replicated what the leader has written since its election, so
		// only the leader knows whether the log was truncated.
		s.fallBack(errBehind, now, told)
		s.verify(now)
	case b.ErrorCode == 0:
		return false
	default:
		// Only the leader knows whether a position is out of range. If it is not, the
		// leader has the records.
		s.fallBack(sarama.KError(b.ErrorCode), now, told)
		if b.ErrorCode == int16(sarama.ErrOffsetOutOfRange) {
			s.verify(now)
		}
	}
	return true
}

// verify has the leader look the position up. A fetch would not do: a leader that chooses
// replicas without a rack sends it back to the replica.
func (s *Subscription) verify(now time.Time) {
	s.want = lookupRange
	s.lose(now) // first: whether it is still the same topic
}

// advised begins a lease.
func (s *Subscription) advised(id int32, now time.Time, told *calls) {
	f := s.f
	addr := f.addrs[id]
	if addr == "" {
		err := fmt.Errorf("fetch %s/%d: the leader advises broker %d, which the metadata does not list", s.spec.Topic, s.spec.Partition, id)
		told.add(s.fail(err, false, now))
		s.nearAt = now.Add(f.times.leader)
		s.lose(now)
		return
	}
	if s.nearAt.After(now) { // without a rack: the broker chooses by other means, and sends no records
		s.retryAt = now.Add(backoff(3))
	}
	b := f.brokerAt(id, addr)
	s.leasePos, s.onTrial = s.pos, s.end() > s.pos
	s.leaseEnds = now.Add(f.times.lease)
	if s.onTrial {
		s.leaseEnds = now.Add(f.times.trial)
	}
	if !b.near {
		b.near = true
		told.add(func() { f.log.Info("fetching from nearest replica", "broker", addr) })
	}
	s.move(b)
}

// fallBack ends a lease because of an error.
func (s *Subscription) fallBack(err error, now time.Time, told *calls) {
	if b := s.broker; now.Sub(b.toldAt) > 5*time.Minute {
		b.toldAt = now
		log, addr := s.f.log, b.addr
		told.add(func() { log.Info("nearest replica failed; fetching from the leader", "broker", addr, "error", err) })
	}
	s.nearAt = now.Add(s.f.times.leader)
	s.toLeader(now)
}

// toLeader ends a lease.
func (s *Subscription) toLeader(now time.Time) {
	if b := s.f.brokers[s.leader]; b != nil {
		s.move(b)
	} else {
		s.lose(now)
	}
}

// move makes b the broker from which the partition is fetched.
func (s *Subscription) move(b *broker) {
	if s.broker != b {
		s.leave()
		s.broker, s.index = b, len(b.subs)
		b.subs = append(b.subs, s)
	}
	s.drained = false
	s.wakeLane()
	if len(b.lanes) < s.f.set.Lanes {
		s.f.wake.Set()
	}
}

// leaseOver reports whether the leader is to be asked instead of the replica, and if so,
// moves s to it.
func (s *Subscription) leaseOver(now time.Time) bool {
	if !s.follows() || now.Before(s.leaseEnds) {
		return false
	}
	if s.onTrial && s.pos == s.leasePos {
		s.nearAt = now.Add(s.f.times.leader)
	}
	s.toLeader(now)
	return true
}

// delivered notes whether an answer had records. A part of a batch counts as well: the
// replica has the rest.
func (s *Subscription) delivered(c *batch.Content, now time.Time) {
	if !s.follows() {
		return
	}
	s.drained = c.WireBytes == 0
	if c.Next != s.pos && s.onTrial {
		s.onTrial, s.leaseEnds = false, now.Add(s.f.times.lease)
	}
}

// learnEnds records where the partition ends. A replica may know less than its leader has
// said before.
func (s *Subscription) learnEnds(b *kmsg.FetchResponseTopicPartition) {
	if s.follows() {
		s.highWater, s.stable = max(s.highWater, b.HighWatermark), max(s.stable, b.LastStableOffset)
		return
	}
	s.highWater, s.stable = b.HighWatermark, b.LastStableOffset
}

// desert returns all subscriptions that fetch from b as a replica to their leaders.
func (b *broker) desert(err error, now time.Time, told *calls) {
	for i := len(b.subs) - 1; i >= 0; i-- { // each that leaves is replaced by the last
		if s := b.subs[i]; s.follows() && !s.inFlight {
			s.fallBack(err, now, told)
		}
	}
}

// rackOf returns the rack that a request to a leader names: none if a subscription in it
// must not be sent to a replica now.
func (j *fetchJob) rackOf(now time.Time) string {
	for _, w := range j.wants {
		for _, m := range w.subs {
			if m.nearAt.After(now) {
				return ""
			}
		}
	}
	return j.f.set.Rack
}

// resetRacks applies a changed rack: the leaders are asked again, from the next request on.
func (f *Fetcher) resetRacks() {
	for _, b := range f.brokers {
		b.near, b.toldAt = false, time.Time{}
	}
	for s := range f.subs {
		s.nearAt, s.leaseEnds, s.onTrial = time.Time{}, time.Time{}, false
	}
}
