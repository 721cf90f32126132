package fetch

import (
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
	"kcagent/fetch/wire"
)

// take hands an answer to those who asked.
func (j *fetchJob) take(fr *batch.Frame, resp *kmsg.FetchResponse) {
	blocks := make(map[wire.TopicPartition]*kmsg.FetchResponseTopicPartition, len(j.wants))
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for k := range t.Partitions {
			blocks[wire.TopicPartition{Topic: t.Topic, Partition: t.Partitions[k].Partition}] = &t.Partitions[k]
		}
	}
	contents := make([]batch.Content, len(j.wants))
	for i, w := range j.wants {
		if b := blocks[w.TopicPartition]; b != nil && b.ErrorCode == 0 {
			contents[i] = batch.Decode(fr, &j.room, b, w.offset, j.iso)
		}
	}
	now := time.Now()
	var told calls
	defer func() { told.run() }()
	f := j.f
	f.mu.Lock()
	defer f.mu.Unlock()
	f.served++
	for i, w := range j.wants {
		b := blocks[w.TopicPartition]
		for _, m := range w.subs {
			if !m.current() {
				continue
			}
			switch {
			case m.reroute(b, now, &told):
			case b == nil:
				m.refused(sarama.ErrIncompleteResponse, &told)
			case b.ErrorCode == int16(sarama.ErrOffsetOutOfRange):
				m.want = lookupRange
				m.lose(now) // first: whether it is still the same topic
			case b.ErrorCode != 0:
				m.refused(sarama.KError(b.ErrorCode), &told)
			case b.DivergingEpoch.Epoch >= 0 && b.DivergingEpoch.EndOffset >= 0:
				if m.posEpoch == w.last { // for others there is nothing in the answer
					m.diverge(b, now)
				}
			default:
				m.accept(b, &contents[i], fr, now, &told)
				if i == 0 && !m.gotAt.Equal(now) && !contents[i].Deferred {
					m.served = f.served // it was first, and there is nothing: others' turn
					m.void = m.behind()
				}
			}
		}
	}
	j.done()
	if fr.InUse() {
		f.budget.keep(fr.Size())
	} else {
		fr.Release()
	}
}

// accept queues what came for s.
func (s *Subscription) accept(b *kmsg.FetchResponseTopicPartition, c *batch.Content, fr *batch.Frame, now time.Time, told *calls) {
	s.retryAt = time.Time{}
	if !s.placed {
		s.announce, s.placed = true, true // the position is in range
		s.ready.Set()
	}
	s.answered = now
	s.learnEnds(b)
	s.delivered(c, now)
	s.alone = s.alone && c.Err != nil
	if !c.Deferred {
		s.needs = 0
	}
	switch {
	case c.Next == s.pos && c.Err != nil:
		s.unreadable(c.Err, told)
		return
	case c.Next == s.pos && c.Deferred:
		s.hold(c, now, told)
		return
	case c.Next == s.pos:
		s.missing(c, told)
		return
	}
	told.add(s.recover())
	s.learn(c)
	s.missed, s.void, s.lackSince = 0, false, now
	s.served, s.gotAt = s.f.served, now
	if s.broker != nil {
		s.broker.movedAt = now
	}
	fr.Retain()
	s.pos, s.posEpoch = c.Next, c.Last
	s.queue = append(s.queue, &queuedPart{part: c.Part(), frame: fr, since: now})
	s.ready.Set()
}

// missing deals with an answer that has nothing for s. There may be something: a
// batch larger than what was asked for comes only first in an answer, where those
// stand that waited longest. A broker that cuts it off there, too, is asked for
// more.
func (s *Subscription) missing(c *batch.Content, told *calls) {
	if !s.behind() {
		s.missed, s.void = 0, false
		told.add(s.recover())
		return
	}
	if s.missed++; c.WireBytes == 0 || s.missed < 3 {
		return
	}
	if s.ask < int(sarama.MaxResponseSize)/2 {
		s.ask *= 2
		return
	}
	s.unreadable(fmt.Errorf("broker sent no complete batch of records in a response of %d bytes", s.ask), told)
}

// unreadable takes in that the records at pos cannot be read. Nothing is skipped:
// it is tried again, for the line may have been at fault.
func (s *Subscription) unreadable(err error, told *calls) {
	now := time.Now()
	if s.follows() {
		s.fallBack(err, now, told)
		return
	}
	told.add(s.fail(fmt.Errorf("read %s/%d at offset %d: %w", s.spec.Topic, s.spec.Partition, s.pos, err), true, now))
	s.retryAt = now.Add(backoff(s.tries + 3))
}
