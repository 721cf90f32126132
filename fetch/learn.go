package fetch

import (
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// A found is the metadata of a topic, with its partitions by their numbers.
type found struct {
	*sarama.TopicMetadata
	partitions map[int32]*sarama.PartitionMetadata
}

// index prepares the metadata for learn, without f.mu.
func index(meta *sarama.MetadataResponse) []found {
	all := make([]found, len(meta.Topics))
	for i, t := range meta.Topics {
		all[i] = found{t, make(map[int32]*sarama.PartitionMetadata, len(t.Partitions))}
		for _, p := range t.Partitions {
			all[i].partitions[p.ID] = p
		}
	}
	return all
}

// learn applies the metadata that the broker at from sent. It applies to the subscriptions
// whose leader is unknown, and all of a topic that may have been recreated. f.mu is held.
func (f *Fetcher) learn(meta *sarama.MetadataResponse, topics []found, from string, told *calls) {
	now := time.Now()
	addrs := make(map[int32]string, len(meta.Brokers))
	for _, b := range meta.Brokers {
		addrs[b.ID()] = b.Addr()
	}
	f.addrs = addrs
	for id, b := range f.brokers {
		if addr := addrs[id]; addr != "" && addr != b.addr {
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
	for _, t := range topics {
		f.note(t.TopicMetadata, clusterNamed(meta.ClusterID), from, now)
		known := f.topics[t.Name]
		concerned := lost[t.Name]
		if known.recognised != known.id || known.rival != "" {
			known.recognised, concerned = known.id, nil
			for _, subs := range f.readers[t.Name] {
				concerned = append(concerned, subs...)
			}
		}
		for _, s := range concerned {
			p, err := t.partition(s.spec.Partition, addrs)
			s.learnLeader(p, err, known, addrs, now, told)
		}
	}
}

// learnLeader applies the metadata of the partition of s.
func (s *Subscription) learnLeader(p *sarama.PartitionMetadata, err error, t *topic, addrs map[int32]string, now time.Time, told *calls) {
	f := s.f
	if err == nil {
		err = s.recognise(t, told)
	}
	// A broker with outdated metadata reports an older epoch. If the epoch stays, the topic
	// was recreated.
	if err == nil && p.LeaderEpoch < s.epoch && s.tries < 5 && p.LeaderEpoch >= 0 && s.epoch >= 0 {
		err = sarama.ErrFencedLeaderEpoch
	}
	switch {
	case err == nil && (s.lost || s.broker == nil):
		f.assign(s, f.brokerAt(p.Leader, addrs[p.Leader]), p.LeaderEpoch)
	case err != nil && s.lost:
		told.add(s.fail(fmt.Errorf("look up leader of %s/%d: %w", s.spec.Topic, s.spec.Partition, err), grave(err), now))
		s.lose(now)
	}
}

// partition returns the metadata of a partition; ok is false if it cannot be read.
func (t *found) partition(id int32, addrs map[int32]string) (*sarama.PartitionMetadata, error) {
	if t.Err != sarama.ErrNoError && t.Err != sarama.ErrLeaderNotAvailable {
		return nil, t.Err
	}
	p := t.partitions[id]
	switch {
	case p == nil:
		return nil, sarama.ErrUnknownTopicOrPartition
	case p.Leader < 0 || addrs[p.Leader] == "":
		return nil, sarama.ErrLeaderNotAvailable
	case p.Version < 7:
		p.LeaderEpoch = -1
	}
	return p, nil
}
