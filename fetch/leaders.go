package fetch

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch/metadata"
	"kcagent/fetch/wire"
)

// lookupWindow is how far ahead of its time the leader of a partition is looked up
// together with others that are due: one request a second is enough for any number of
// partitions without a leader.
const lookupWindow = backoffLast / 4

// leaderLookup is what the metadata client asks of, and tells, the fetcher.
type leaderLookup struct{ f *Fetcher }

// Due implements [Leaders].
func (l leaderLookup) Due(now time.Time, topics map[string]bool) (wait time.Duration) {
	f := l.f
	f.mu.Lock()
	defer f.mu.Unlock()
	wait = math.MaxInt64
	for s := range f.lost {
		wait = min(wait, max(0, s.routeAt.Sub(now)))
	}
	if wait > 0 {
		return wait
	}
	for s := range f.lost {
		if s.routeAt.Sub(now) <= lookupWindow {
			topics[s.spec.Topic] = true
		}
	}
	return math.MaxInt64
}

// Addrs implements [Leaders].
func (l leaderLookup) Addrs() []string {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	var addrs []string
	for _, b := range l.f.brokers {
		addrs = append(addrs, b.addr)
	}
	return addrs
}

// Fail implements [Leaders].
func (l leaderLookup) Fail(topics map[string]bool, err error, began time.Time, wait time.Duration) {
	var told calls
	defer func() { told.run() }()
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	for s := range l.f.lost {
		if topics[s.spec.Topic] {
			told.add(s.fail(err, wire.LoginRejected(err), began))
			s.routeAt = time.Now().Add(wait)
		}
	}
}

// Unresolved implements [Leaders].
func (l leaderLookup) Unresolved() bool {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	for s := range l.f.lost {
		if s.tries > 1 {
			return true
		}
	}
	return false
}

// Learn applies the metadata to the subscriptions whose leader is unknown, and to all of a
// topic that may have been recreated.
func (l leaderLookup) Learn(u *metadata.Update) {
	var told calls
	defer func() { told.run() }()
	f := l.f
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.addrs = u.Addrs
	for id, b := range f.brokers {
		if addr := u.Addrs[id]; addr != "" && addr != b.addr {
			b.addr = addr
			b.redial()
		} else if addr == "" && len(b.lanes) == 0 && len(b.subs) == 0 {
			delete(f.brokers, id)
		}
	}
	lost := make(map[string][]*Subscription)
	for s := range f.lost {
		lost[s.spec.Topic] = append(lost[s.spec.Topic], s)
	}
	for i := range u.Topics {
		t := &u.Topics[i]
		concerned := lost[t.Name]
		if t.All {
			concerned = nil
			for _, subs := range f.readers[t.Name] {
				concerned = append(concerned, subs...)
			}
		}
		for _, s := range concerned {
			leader, err := u.Leader(t, s.spec.Partition)
			s.learnLeader(leader, err, t, now, &told)
		}
	}
}

// learnLeader applies the metadata of the partition of s.
func (s *Subscription) learnLeader(leader metadata.Leader, err error, t *metadata.TopicUpdate, now time.Time, told *calls) {
	f := s.f
	if err == nil {
		err = s.recognise(t, told)
	}
	// A broker with outdated metadata reports an older epoch. If the epoch stays, the topic
	// was recreated.
	if err == nil && leader.Epoch < s.epoch && s.tries < 5 && leader.Epoch >= 0 && s.epoch >= 0 {
		err = sarama.ErrFencedLeaderEpoch
	}
	switch {
	case err == nil && (s.lost || s.broker == nil):
		f.assign(s, f.brokerAt(leader.ID, leader.Addr), leader.Epoch)
	case err != nil && s.lost:
		told.add(s.fail(fmt.Errorf("look up leader of %s/%d: %w", s.spec.Topic, s.spec.Partition, err), grave(err), now))
		s.lose(now)
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

// A RenewedError says that a topic was deleted and made anew, so that a position
// in the old one means nothing.
type RenewedError struct{ Topic string }

func (e *RenewedError) Error() string {
	return fmt.Sprintf("topic %q was deleted and made anew", e.Topic)
}

// recognise reports whether the topic is the one that s has been reading. f.mu
// is held.
func (s *Subscription) recognise(t *metadata.TopicUpdate, told *calls) error {
	switch {
	case s.topic == "":
		s.topic = t.ID
	case t.Disputed:
		return sarama.ErrUnknownTopicOrPartition // until it is known which one it is
	case s.topic != t.ID && s.fatal == nil:
		s.fatal = &RenewedError{s.spec.Topic}
		s.drop(s.next)
		s.ready.Set()
		told.add(s.spec.Changed)
	}
	return nil
}

// readers are the subscriptions, by topic and partition, so that what is learned of a
// partition reaches its consumers without a search. f.mu guards them.
type readers map[string]map[int32][]*Subscription

func (r readers) add(s *Subscription) {
	partitions := r[s.spec.Topic]
	if partitions == nil {
		partitions = make(map[int32][]*Subscription)
		r[s.spec.Topic] = partitions
	}
	partitions[s.spec.Partition] = append(partitions[s.spec.Partition], s)
}

func (r readers) remove(s *Subscription) {
	partitions := r[s.spec.Topic]
	rest := partitions[s.spec.Partition]
	if i := slices.Index(rest, s); i >= 0 {
		rest = slices.Delete(rest, i, i+1)
	}
	if partitions[s.spec.Partition] = rest; len(rest) > 0 {
		return
	}
	if delete(partitions, s.spec.Partition); len(partitions) == 0 {
		delete(r, s.spec.Topic)
	}
}
