package fetch

import (
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
	"kcagent/fetch/partition"
	"kcagent/logkey"
)

// Fetching from the nearest replica (KIP-392). A request to a leader names Settings.Rack, and the
// leader may respond that a follower is nearer. The subscription then fetches from that follower
// for a lease. Only the leader is asked where a partition begins and ends, and whether a position
// is out of range.
//
// A follower may be behind its leader, or unable to replicate at all, and a leader may advise a
// follower that is down. So the first error returns the subscription to its leader. For some time,
// requests to the leader then name no rack, because a leader that knows the rack sends no records.

// leaseTimes are how long a subscription uses a replica. Tests shorten them.
type leaseTimes struct {
	lease      time.Duration // until the leader is asked again
	trial      time.Duration // until a replica is abandoned that sends none of the records that the leader has
	afterError time.Duration // during which no replica is used after an error of one
}

var defaultLeases = leaseTimes{lease: time.Minute, trial: 10 * time.Second, afterError: 30 * time.Second}

// A route is the broker that a partition is fetched from.
type route struct {
	broker      *broker   // the leader or a replica; nil if none is known
	leader      int32     // id of the leader
	leaderEpoch int32     // -1 if it is unknown
	lost        bool      // the leader has to be looked up
	lookupAt    time.Time // the next lookup is not before

	leaseEnds   time.Time // when the leader is asked again, if broker is a replica
	leaseOffset int64     // cursor.FetchOffset when the lease began
	onTrial     bool      // the leader had records then, and the replica has sent none yet
	drained     bool      // the last response of the replica had no records, whatever the leader has
	replicaFrom time.Time // no replica is used before
}

// errReplicaBehind reports a replica whose log ends before the last record that was consumed.
var errReplicaBehind = errors.New("log of the replica ends in an older leader epoch")

// onReplica reports whether s fetches from a replica.
func (s *Subscription) onReplica() bool {
	return s.route.broker != nil && s.route.broker.id != s.route.leader
}

// reroute handles a response that sends s to another broker: the advice of the leader, or an error of
// a replica. It returns false for other responses. part is nil if the response lacks the partition.
func (s *Subscription) reroute(part *kmsg.FetchResponseTopicPartition, now time.Time, later *callbacks) bool {
	switch {
	case !s.onReplica():
		if part == nil || part.ErrorCode != 0 || part.PreferredReadReplica < 0 || part.PreferredReadReplica == s.route.leader {
			return false
		}
		s.request.answeredAt = now
		s.setEnds(part, now)
		s.followAdvice(part.PreferredReadReplica, now, later)
	case part == nil:
		s.abandonReplica(sarama.ErrIncompleteResponse, now, later)
	case part.ErrorCode == 0 && part.DivergingEpoch.Epoch >= 0:
		// The replica may not have the records that the leader has written since its election, so
		// only the leader knows whether the log was truncated.
		s.abandonReplica(errReplicaBehind, now, later)
		s.recheckPosition(now)
	case part.ErrorCode == 0:
		return false
	default:
		// Only the leader knows whether a position is out of range. If it is not, the
		// leader has the records.
		s.abandonReplica(sarama.KError(part.ErrorCode), now, later)
		if part.ErrorCode == int16(sarama.ErrOffsetOutOfRange) {
			s.recheckPosition(now)
		}
	}
	return true
}

// recheckPosition makes the leader check the position by a lookup. A leader that advises replicas
// without knowing a rack would answer a fetch with the same advice.
func (s *Subscription) recheckPosition(now time.Time) {
	s.cursor.Lookup = partition.LookupRange
	s.lookUpLeader(now) // which also finds out whether the topic was recreated
}

// followAdvice starts a lease at the replica with the id.
func (s *Subscription) followAdvice(id int32, now time.Time, later *callbacks) {
	f := s.f
	addr := f.brokerAddrs[id]
	if addr == "" {
		err := fmt.Errorf("fetch %s/%d: the leader advises broker %d, which the metadata does not list", s.spec.Topic, s.spec.Partition, id)
		later.add(s.fail(err, false, now))
		s.route.replicaFrom = now.Add(f.leases.afterError)
		s.lookUpLeader(now)
		return
	}
	if s.route.replicaFrom.After(now) { // the leader advises replicas without knowing a rack, and sends no records
		s.request.retryAt = now.Add(backoff(3))
	}
	b := f.brokerAt(id, addr)
	s.route.leaseOffset, s.route.onTrial = s.cursor.FetchOffset, s.cursor.End(s.iso) > s.cursor.FetchOffset
	s.route.leaseEnds = now.Add(f.leases.lease)
	if s.route.onTrial {
		s.route.leaseEnds = now.Add(f.leases.trial)
	}
	if !b.loggedAsReplica {
		b.loggedAsReplica = true
		later.add(func() { f.log.Info("fetching from nearest replica", logkey.Broker, addr) })
	}
	s.moveTo(b)
}

// abandonReplica ends the lease because of an error.
func (s *Subscription) abandonReplica(err error, now time.Time, later *callbacks) {
	if b := s.route.broker; now.Sub(b.loggedErrorAt) > 5*time.Minute {
		b.loggedErrorAt = now
		log, addr := s.f.log, b.addr
		later.add(func() {
			log.Info("nearest replica failed; fetching from the leader", logkey.Broker, addr, logkey.Error, err)
		})
	}
	s.route.replicaFrom = now.Add(s.f.leases.afterError)
	s.returnToLeader(now)
}

// returnToLeader ends the lease.
func (s *Subscription) returnToLeader(now time.Time) {
	if b := s.f.brokers[s.route.leader]; b != nil {
		s.moveTo(b)
	} else {
		s.lookUpLeader(now)
	}
}

// moveTo makes b the broker that s fetches from.
func (s *Subscription) moveTo(b *broker) {
	if s.route.broker != b {
		s.leaveBroker()
		s.route.broker, s.entry.index = b, len(b.subs)
		b.subs = append(b.subs, s)
	}
	s.route.drained = false
	if soon := time.Now().Add(s.f.endsInterval / 10); s.paused && s.request.sentAt.IsZero() && b.nextEndsAt.After(soon) {
		b.nextEndsAt = soon
	}
	s.wakeLane()
	if len(b.lanes) < s.f.settings.Lanes {
		s.f.wake.Set()
	}
}

// expireLease returns s to its leader if the lease has ended, and reports whether it has.
func (s *Subscription) expireLease(now time.Time) bool {
	if !s.onReplica() || now.Before(s.route.leaseEnds) {
		return false
	}
	if s.route.onTrial && s.cursor.FetchOffset == s.route.leaseOffset {
		s.route.replicaFrom = now.Add(s.f.leases.afterError)
	}
	s.returnToLeader(now)
	return true
}

// recordReplicaResponse records whether a response of a replica had records. A part of a batch counts
// as well, because the replica has the rest.
func (s *Subscription) recordReplicaResponse(c *batch.Content, now time.Time) {
	if !s.onReplica() {
		return
	}
	s.route.drained = c.WireBytes == 0
	if c.Next != s.cursor.FetchOffset && s.route.onTrial {
		s.route.onTrial, s.route.leaseEnds = false, now.Add(s.f.leases.lease)
	}
}

// updateEnds records where the partition ends. A replica may know less than its leader has reported
// before.
func (s *Subscription) updateEnds(part *kmsg.FetchResponseTopicPartition, now time.Time) {
	before := s.cursor
	s.setEnds(part, now)
	if s.onReplica() {
		s.cursor.HighWater, s.cursor.LastStable = max(s.cursor.HighWater, before.HighWater), max(s.cursor.LastStable, before.LastStable)
	}
}

// setEnds records where the partition ends, as a response to a fetch reports it.
func (s *Subscription) setEnds(part *kmsg.FetchResponseTopicPartition, now time.Time) {
	s.cursor.HighWater, s.cursor.LastStable, s.cursor.EndAt = part.HighWatermark, part.LastStableOffset, now
}

// returnAllToLeaders returns the subscriptions that fetch from b as a replica to their leaders.
func (b *broker) returnAllToLeaders(err error, now time.Time, later *callbacks) {
	for i := len(b.subs) - 1; i >= 0; i-- { // the last one takes the place of one that leaves
		if s := b.subs[i]; s.onReplica() && !s.request.inFlight {
			s.abandonReplica(err, now, later)
		}
	}
}

// rackFor returns the rack that the request names. It is "" while a participant must not be sent to
// a replica.
func (j *fetchJob) rackFor(now time.Time) string {
	for _, e := range j.entries {
		for _, p := range e.subs {
			if p.route.replicaFrom.After(now) {
				return ""
			}
		}
	}
	return j.f.settings.Rack
}

// resetRacks applies a changed rack: the next requests ask the leaders again.
func (f *Fetcher) resetRacks() {
	for _, b := range f.brokers {
		b.loggedAsReplica, b.loggedErrorAt = false, time.Time{}
	}
	for s := range f.subs {
		s.route.replicaFrom, s.route.leaseEnds, s.route.onTrial = time.Time{}, time.Time{}, false
	}
}
