package fetch

import (
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch/batch"
	"kcagent/fetch/dial"
	"kcagent/fetch/metadata"
	"kcagent/fetch/partition"
	"kcagent/fetch/wire"
)

// lookupWindow is how far ahead of its time the leader of a partition is looked up together with
// others that are due. So one request a second is enough for any number of partitions without a
// leader.
const lookupWindow = backoffLast / 4

// leaderLookup connects the metadata client to the subscriptions.
type leaderLookup struct{ f *Fetcher }

// Due implements [metadata.Leaders].
func (l leaderLookup) Due(now time.Time, topics map[string]bool) (wait time.Duration) {
	f := l.f
	f.mu.Lock()
	defer f.mu.Unlock()
	wait = math.MaxInt64
	for s := range f.lost {
		wait = min(wait, max(0, s.route.lookupAt.Sub(now)))
	}
	if wait > 0 {
		return wait
	}
	for s := range f.lost {
		if s.route.lookupAt.Sub(now) <= lookupWindow {
			topics[s.spec.Topic] = true
		}
	}
	return math.MaxInt64
}

// Addrs implements [metadata.Leaders].
func (l leaderLookup) Addrs() []string {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	var addrs []string
	for _, b := range l.f.brokers {
		addrs = append(addrs, b.addr)
	}
	return addrs
}

// Fail implements [metadata.Leaders].
func (l leaderLookup) Fail(topics map[string]bool, err error, began time.Time, wait time.Duration) {
	var later callbacks
	defer func() { later.run() }()
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	for s := range l.f.lost {
		if topics[s.spec.Topic] {
			later.add(s.fail(err, wire.LoginRejected(err), began))
			s.route.lookupAt = time.Now().Add(wait)
		}
	}
}

// Unresolved implements [metadata.Leaders].
func (l leaderLookup) Unresolved() bool {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	for s := range l.f.lost {
		if s.health.Failures > 1 {
			return true
		}
	}
	return false
}

// Learn implements [metadata.Leaders]. It applies the response to the subscriptions whose leaders
// are unknown, and to all of a topic that may have been recreated.
func (l leaderLookup) Learn(u *metadata.Update) {
	var later callbacks
	defer func() { later.run() }()
	f := l.f
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.brokerAddrs = u.Addrs
	for id, b := range f.brokers {
		if addr := u.Addrs[id]; addr != "" && addr != b.addr {
			b.addr = addr
			b.reconnect()
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
		subs := lost[t.Name]
		if t.ForAll {
			subs = nil
			for _, some := range f.byPartition[t.Name] {
				subs = append(subs, some...)
			}
		}
		for _, s := range subs {
			found, err := u.Leader(t, s.spec.Partition)
			s.applyLeader(found, err, t, now, &later)
		}
	}
}

// applyLeader applies the leader of the partition of s, or the error of its lookup.
func (s *Subscription) applyLeader(leader metadata.Leader, err error, t *metadata.TopicUpdate, now time.Time, later *callbacks) {
	f := s.f
	if err == nil {
		err = s.checkTopicID(t, later)
	}
	// A broker with outdated metadata reports an older epoch. If several responses have it, the
	// topic was recreated.
	if err == nil && leader.Epoch < s.route.leaderEpoch && s.health.Failures < 5 && leader.Epoch >= 0 && s.route.leaderEpoch >= 0 {
		err = sarama.ErrFencedLeaderEpoch
	}
	switch {
	case err == nil && (s.route.lost || s.route.broker == nil):
		f.assignLeader(s, f.brokerAt(leader.ID, leader.Addr), leader.Epoch)
	case err != nil && s.route.lost:
		later.add(s.fail(fmt.Errorf("look up leader of %s/%d: %w", s.spec.Topic, s.spec.Partition, err), severe(err), now))
		s.lookUpLeader(now)
	}
}

// brokerAt returns the broker with the id, which has the address.
func (f *Fetcher) brokerAt(id int32, addr string) *broker {
	b := f.brokers[id]
	if b == nil {
		b = &broker{id: id, addr: addr}
		f.brokers[id] = b
	}
	return b
}

// checkTopicID compares the topic with the one that s reads. If it was recreated, s fails.
func (s *Subscription) checkTopicID(t *metadata.TopicUpdate, later *callbacks) error {
	switch {
	case s.topicID == "":
		s.topicID = t.ID
	case t.Disputed:
		return sarama.ErrUnknownTopicOrPartition // until one of the ids is accepted
	case s.topicID != t.ID && s.fatal == nil:
		s.fatal = &partition.RecreatedError{Topic: s.spec.Topic}
		s.drop(s.cursor.Next)
		s.signal(later)
		later.add(s.spec.Changed)
	}
	return nil
}

// A partitionIndex finds the subscriptions of a topic and partition. f.mu guards it.
type partitionIndex map[string]map[int32][]*Subscription

func (x partitionIndex) add(s *Subscription) {
	partitions := x[s.spec.Topic]
	if partitions == nil {
		partitions = make(map[int32][]*Subscription)
		x[s.spec.Topic] = partitions
	}
	partitions[s.spec.Partition] = append(partitions[s.spec.Partition], s)
}

func (x partitionIndex) remove(s *Subscription) {
	partitions := x[s.spec.Topic]
	rest := partitions[s.spec.Partition]
	if i := slices.Index(rest, s); i >= 0 {
		rest = slices.Delete(rest, i, i+1)
	}
	if partitions[s.spec.Partition] = rest; len(rest) > 0 {
		return
	}
	if delete(partitions, s.spec.Partition); len(partitions) == 0 {
		delete(x, s.spec.Topic)
	}
}

// Types of the packages below that callers of a [Fetcher] need, so that they depend on this package
// alone.
type (
	Record               = batch.Record
	Part                 = batch.Part
	Values               = batch.Values
	ValueLimits          = batch.ValueLimits
	Pin                  = dial.Pin
	ConnectOptions       = dial.Options
	Membership           = dial.Membership
	ConnectionLimitError = dial.ConnectionLimitError
	NotKafkaError        = dial.NotKafkaError
	HandshakeError       = dial.HandshakeError
	ForeignClusterError  = dial.ForeignClusterError
	Link                 = wire.Link
	UnsupportedError     = wire.UnsupportedError
	TopicError           = metadata.TopicError
	Policy               = partition.Policy
	OutOfRangeError      = partition.OutOfRangeError
	TruncatedError       = partition.TruncatedError
	RecreatedError       = partition.RecreatedError
)

// The policies.
const (
	Fail     = partition.Fail
	Earliest = partition.Earliest
	Latest   = partition.Latest
)

// ErrEnded is what every call returns after Run has returned.
var ErrEnded = metadata.ErrEnded

// ErrDisputed is [metadata.ErrDisputed].
var ErrDisputed = metadata.ErrDisputed

// NewPin is [dial.NewPin].
func NewPin(id string) *Pin { return dial.NewPin(id) }

// Pin returns the pin of the cluster.
func (f *Fetcher) Pin() *Pin { return f.options.Pin }

// Connect is [dial.Dialer.Connect].
func (f *Fetcher) Connect(ctx context.Context, addr string, w ConnectOptions) (net.Conn, error) {
	c, err := f.dialer.Connect(ctx, addr, w)
	if err != nil {
		return nil, err // not an interface that holds a nil pointer
	}
	return c, nil
}

// Reach is [wire.Opener.Reach].
func (f *Fetcher) Reach(ctx context.Context, addr string) error { return f.opener.Reach(ctx, addr) }

// Link is [wire.Opener.Link].
func (f *Fetcher) Link(ctx context.Context, addr string) (*Link, error) {
	return f.opener.Link(ctx, addr)
}

// Refresh is [metadata.Client.Refresh].
func (f *Fetcher) Refresh(ctx context.Context, topics []string) error {
	return f.metadata.Refresh(ctx, topics)
}

// RefreshSince is [metadata.Client.RefreshSince].
func (f *Fetcher) RefreshSince(ctx context.Context, topics []string, since time.Time) error {
	return f.metadata.RefreshSince(ctx, topics, since)
}

// Confirm is [metadata.Client.Confirm].
func (f *Fetcher) Confirm(ctx context.Context, topics []string) (failed map[string]error, err error) {
	return f.metadata.Confirm(ctx, topics)
}

// Partitions is [metadata.Client.Partitions].
func (f *Fetcher) Partitions(topic string) ([]int32, error) { return f.metadata.Partitions(topic) }

// Identity is [metadata.Client.Identity].
func (f *Fetcher) Identity(topic string) (cluster, id string) { return f.metadata.Identity(topic) }

// Topics is [metadata.Client.Topics].
func (f *Fetcher) Topics(ctx context.Context, maxAge time.Duration) ([]string, error) {
	return f.metadata.Topics(ctx, maxAge)
}

// Coordinator is [metadata.Client.Coordinator].
func (f *Fetcher) Coordinator(ctx context.Context, group string) (id int32, addr string, err error) {
	return f.metadata.Coordinator(ctx, group)
}
