package agent

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/fetch"
	"kcagent/sink"
)

// A commitment is what the coordinator holds for a partition.
type commitment struct {
	offset   int64 // -1: nothing
	metadata string
	note
}

// place finds out where each partition is to go on. There are two accounts of
// that: the offsets that the group committed, and, if the sink keeps one, the
// sink's own. Beside each offset that an agent commits it leaves the name of its
// sink's account as metadata, so one sees who moved the offset last:
//
//   - This sink did, or nobody: the sink's account wins. It is never behind what
//     it committed, and a crash between the two made it be ahead.
//   - Somebody else did: another agent to which the partition went, or an operator
//     (kafka-consumer-groups --reset-offsets). The group's offset wins.
//
// In the second case the account would be taken for ahead after a crash, so
// before the first record it is moved, and then the offset committed under its
// name: see claim.
func (s *session) place(ctx context.Context) error {
	committed, err := s.fetchCommitted()
	if err != nil {
		return fmt.Errorf("fetch committed offsets of group %s: %w", s.spec.Group, err)
	}
	for tp, p := range s.partitions {
		c := committed[tp]
		p.committed.Store(c.offset)
		p.safe.Store(c.offset)
		p.accepted.Store(c.offset)
		p.others = c.owner
	}
	if err := s.findBeginnings(committed); err != nil {
		return err
	}
	for _, p := range s.partitions {
		if err := s.resume(ctx, p, committed[p.TopicPartition]); err != nil {
			return err
		}
	}
	s.begins.remade = nil
	for _, p := range s.partitions {
		f := p.begin(s.spec.Start)
		s.pins = s.pins || f.Offset == sarama.OffsetNewest || !f.Time.IsZero()
	}
	s.tellStarts()
	return nil
}

// resume has the sink's account say where p goes on, if it keeps one.
func (s *session) resume(ctx context.Context, p *partition, c commitment) error {
	if resumer, ok := s.sink.(sink.Resumer); ok {
		cluster, topic := s.cluster.Identity(p.Topic)
		at, err := resumer.Resume(ctx, p.TopicPartition, sink.Identity{Cluster: cluster, Topic: topic})
		if err != nil {
			return sinkError{err}
		}
		if at.Owner != "" {
			return s.weigh(p, at, c)
		}
	}
	if s.begins.remade[p.Topic] {
		return s.renew(p)
	}
	return nil
}

// weigh decides between the sink's account and the group's offset.
func (s *session) weigh(p *partition, at sink.Place, c commitment) error {
	p.owner = at.Owner
	p.claimed = make(chan struct{})
	mine := c.offset < 0 || c.owner == at.Owner
	if mine {
		p.own()
	}
	log := s.log.With("topic", p.Topic, "partition", p.Partition, "offset", c.offset)
	switch {
	case at.Next >= 0 && mine:
		p.entered.Store(true)
		p.accepted.Store(at.Next)
		if c.offset < 0 {
			log.Info("the group has no offset here, be it that none was committed yet or that somebody deleted it: goes on where the file ends", "next", at.Next)
		}
		if at.Next != c.offset {
			signal(s.dirty) // commit it
		}
	case at.Renewed && mine:
		return s.renew(p)
	case at.Next >= 0 && at.Next != c.offset && sink.OfAgent(c.metadata):
		log.Info("another agent went on with the partition: this one begins where that one ended", "was_at", at.Next)
	case at.Next >= 0 && at.Next != c.offset:
		s.stats.offsetResets.Add(1)
		log.Warn("the committed offset was moved by somebody else: obeyed", "was_at", at.Next)
	}
	return nil
}

// renew begins in a topic that was deleted and made anew: no position in the
// old one is in range there.
func (s *session) renew(p *partition) error {
	policy := s.spec.OnOutOfRange
	if policy == config.Fail {
		return fmt.Errorf("%w, and on_offset_out_of_range is fail: choose earliest or latest, or commit an offset for the group",
			&fetch.RenewedError{Topic: p.Topic})
	}
	p.accepted.Store(-1)
	p.entered.Store(p.owner != "") // the account is to have a position as soon as there is one
	p.renewed = policy
	s.stats.offsetResets.Add(1)
	s.log.Warn("the topic was deleted and made anew", "topic", p.Topic, "partition", p.Partition, "policy", string(policy))
	return nil
}

// begin is where to subscribe to p: where it stands, or where spec.Start says.
func (p *partition) begin(start config.Start) (f fetch.Spec) {
	f.Offset = p.accepted.Load()
	switch {
	case f.Offset >= 0:
	case p.renewed == config.ResetLatest, p.renewed == "" && start.Latest && !p.later:
		f.Offset = sarama.OffsetNewest
	case p.renewed == config.ResetEarliest, p.later:
		f.Offset = sarama.OffsetOldest
	default:
		f.Offset, f.Time = sarama.OffsetOldest, start.At
	}
	return f
}

// fetchCommitted asks the coordinator for the group's committed offsets.
func (s *session) fetchCommitted() (map[sink.TopicPartition]commitment, error) {
	offsets := make(map[sink.TopicPartition]commitment, len(s.partitions))
	if len(s.partitions) == 0 {
		return offsets, nil
	}
	coordinator, err := s.client.Coordinator(s.spec.Group)
	if err != nil {
		return nil, err
	}
	resp, err := coordinator.FetchOffset(sarama.NewOffsetFetchRequest(s.client.Config().Version, s.spec.Group, s.kafka.Claims()))
	if err != nil {
		return nil, err
	}
	for tp := range s.partitions {
		block := resp.GetBlock(tp.Topic, tp.Partition)
		switch {
		case block == nil && resp.GroupError() != sarama.ErrNoError:
			return nil, resp.GroupError()
		case block == nil:
			return nil, fmt.Errorf("no answer for %s/%d", tp.Topic, tp.Partition)
		case block.Err != sarama.ErrNoError:
			return nil, block.Err
		}
		offsets[tp] = commitment{block.Offset, block.Metadata, parseNote(block.Metadata)}
	}
	return offsets, nil
}

// claim makes the group's offset this sink's before the first record is stored
// on top of it: the account stands there, durably, and then the offset is
// committed under the account's name. Whatever crash comes after it, the account
// wins; before it, the offset does, and nothing was stored. It returns false if
// the generation ended first or the gate was shut.
func (s *session) claim(ctx context.Context, p *partition) bool {
	if p.owner == "" {
		return true
	}
	if !p.owned.Load() {
		here := chunk{Chunk: sink.Chunk{TopicPartition: p.TopicPartition, Next: p.accepted.Load()}}
		if !s.store(ctx, p, here) {
			return false
		}
		p.entered.Store(true)
		signal(s.kick)
		select {
		case <-p.claimed:
		case <-ctx.Done():
			return false
		}
	}
	p.entered.Store(true)
	return true
}
