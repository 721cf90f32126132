package fetch

import (
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
	"kcagent/fetch/partition"
	"kcagent/fetch/wire"
	"kcagent/leader"
)

// handleResponse decodes a response and applies it to the participants.
func (j *fetchJob) handleResponse(fr *batch.Frame, resp *kmsg.FetchResponse) {
	partitions := make(map[wire.TopicPartition]*kmsg.FetchResponseTopicPartition, len(j.entries))
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for k := range t.Partitions {
			partitions[wire.TopicPartition{Topic: t.Topic, Partition: t.Partitions[k].Partition}] = &t.Partitions[k]
		}
	}
	entries := make([]batch.Entry, len(j.entries))
	for i, e := range j.entries {
		if part := partitions[e.TopicPartition]; part != nil && part.ErrorCode == 0 {
			entries[i] = batch.Entry{Partition: part, Offset: e.offset}
		}
	}
	contents := batch.DecodeAll(fr, &j.allowance, entries, j.iso)
	now := time.Now()
	var later callbacks
	defer func() { later.run() }()
	f := j.f
	f.mu.Lock()
	defer f.mu.Unlock()
	f.responses++
	for i, e := range j.entries {
		part := partitions[e.TopicPartition]
		for _, p := range e.subs {
			if !p.finish() {
				continue
			}
			switch {
			case p.reroute(part, now, &later):
			case part == nil:
				p.handleError(sarama.ErrIncompleteResponse, &later)
			case part.ErrorCode == int16(sarama.ErrOffsetOutOfRange):
				p.cursor.Lookup = partition.LookupRange
				p.lookUpLeader(now) // which also finds out whether the topic was recreated
			case part.ErrorCode != 0:
				p.handleError(sarama.KError(part.ErrorCode), &later)
			case part.DivergingEpoch.Epoch >= 0 && part.DivergingEpoch.EndOffset >= 0:
				if p.cursor.FetchEpoch == e.lastEpoch { // others did not know an epoch to compare
					p.handleDivergence(part, now)
				}
			default:
				p.accept(part, &contents[i], fr, now, &later)
				if i == 0 && !p.request.recordsAt.Equal(now) && !contents[i].Deferred {
					p.request.turn = f.responses // although it came first, there was nothing: now others come first
					p.sizing.Barren = p.behind()
				}
			}
		}
	}
	j.release()
	if fr.InUse() {
		f.budget.keep(fr.Size())
	} else {
		fr.Release()
	}
}

// accept applies a response without an error for s, and queues its records.
func (s *Subscription) accept(part *kmsg.FetchResponseTopicPartition, c *batch.Content, fr *batch.Frame, now time.Time, later *callbacks) {
	s.request.retryAt = time.Time{}
	if !s.cursor.Confirmed {
		s.cursor.Report, s.cursor.Confirmed = true, true // the position is in range
		s.signal(later)
	}
	s.request.answeredAt = now
	s.updateEnds(part, now)
	s.recordReplicaResponse(c, now)
	s.sizing.Alone = s.sizing.Alone && c.Err != nil
	if !c.Deferred {
		s.sizing.LargeBytes = 0
	}
	switch {
	case c.Next == s.cursor.FetchOffset && c.Err != nil:
		s.handleBadBatch(c.Err, later)
		return
	case c.Next == s.cursor.FetchOffset && c.Deferred:
		s.handleDeferred(c, now, later)
		return
	case c.Next == s.cursor.FetchOffset:
		s.handleNoRecords(c, later)
		return
	}
	later.add(s.recover())
	s.sizing.Adjust(c, s.spec.MaxBytes)
	s.sizing.Misses, s.sizing.Barren, s.sizing.WaitingSince = 0, false, now
	s.request.turn, s.request.recordsAt = s.f.responses, now
	if s.route.broker != nil {
		s.route.broker.recordsAt = now
	}
	fr.Retain()
	s.cursor.FetchOffset, s.cursor.FetchEpoch = c.Next, c.Last
	s.cursor.Queue = append(s.cursor.Queue, &partition.QueuedPart{Part: c.Part(), Frame: fr, Since: now})
	s.signal(later)
}

// handleNoRecords handles a response without records for s. The broker may have some: it sends a
// batch that is larger than requested only as the first one of a response, and the participant
// that has waited longest comes first. If the broker cuts off the batch even then, more bytes are
// requested.
func (s *Subscription) handleNoRecords(c *batch.Content, later *callbacks) {
	if !s.behind() {
		s.sizing.Misses, s.sizing.Barren = 0, false
		later.add(s.recover())
		return
	}
	if s.sizing.Misses++; c.WireBytes == 0 || s.sizing.Misses < 3 {
		return
	}
	if s.sizing.Bytes < int(sarama.MaxResponseSize)/2 {
		s.sizing.Bytes *= 2
		return
	}
	s.handleBadBatch(fmt.Errorf("broker sent no complete record batch in a response of %d bytes", s.sizing.Bytes), later)
}

// handleBadBatch handles records at the fetch offset that cannot be read. Nothing is skipped. They are
// fetched again, because the cause may have been the transfer.
func (s *Subscription) handleBadBatch(err error, later *callbacks) {
	now := time.Now()
	if s.onReplica() {
		s.abandonReplica(err, now, later)
		return
	}
	later.add(s.fail(fmt.Errorf("read %s/%d at offset %d: %w", s.spec.Topic, s.spec.Partition, s.cursor.FetchOffset, err), true, now))
	s.request.retryAt = now.Add(backoff(s.health.Failures + 3))
}

// handleDivergence handles the response to a fetch in which the leader reports an epoch at which its
// log diverges.
func (s *Subscription) handleDivergence(part *kmsg.FetchResponseTopicPartition, now time.Time) {
	s.request.retryAt, s.request.answeredAt = time.Time{}, now
	s.setEnds(part, now)
	e := wire.EpochEnd{Of: s.cursor.FetchEpoch, Epoch: leader.NewEpoch(part.DivergingEpoch.Epoch), Offset: part.DivergingEpoch.EndOffset}
	if !s.cursor.ConfirmedBy(e) {
		s.cursor.Lookup = partition.LookupRange
		s.lookUpLeader(now) // which also finds out whether the topic was recreated
		return
	}
	// The leader no longer has the epoch, because its records were compacted, for example. But
	// its log up to the position is what was consumed.
	if s.cursor.FetchEpoch = e.Epoch; e.Epoch.Kafka() >= e.Of.Kafka() {
		s.cursor.FetchEpoch = leader.Unknown // otherwise the same response would follow
	}
	s.wakeLane()
}

// epochQuery returns the query for the end of lastEpoch.
func (e *fetchEntry) epochQuery() wire.EpochQuery {
	return wire.EpochQuery{TopicPartition: e.TopicPartition, Current: e.leaderEpoch, Epoch: e.lastEpoch}
}

// epochEnds is [wire.Conn.EpochEnds] with annotated errors.
func (l *lane) epochEnds(queries []wire.EpochQuery) (map[wire.TopicPartition]wire.EpochEnd, error) {
	ends, err := l.conn.EpochEnds(queries)
	if err != nil {
		return nil, l.annotate("look up leader epochs", err)
	}
	return ends, nil
}

// unconfirmed reports whether no leader of the current epoch has confirmed the fetch offset.
func (s *Subscription) unconfirmed() bool {
	return s.cursor.FetchEpoch.Known() && s.cursor.CheckedBy != leader.NewEpoch(s.route.leaderEpoch)
}

// confirmEpochs checks the unconfirmed positions of the job, if the leader is too old to do so in
// fetches. If it has sent a request, done is true, and the records are fetched by another job.
func (j *fetchJob) confirmEpochs(l *lane) (done bool, err error) {
	switch compares, err := l.conn.ComparesEpochs(); {
	case err != nil:
		return false, l.annotate("fetch", err)
	case compares:
		return false, nil
	}
	var queries []wire.EpochQuery
	for _, e := range j.entries {
		if e.unconfirmed {
			queries = append(queries, e.epochQuery())
		}
	}
	ends, err := l.epochEnds(queries)
	if err != nil || ends == nil {
		return false, err
	}
	var later callbacks
	defer func() { later.run() }()
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	for _, e := range j.entries {
		end, asked := ends[e.TopicPartition]
		for _, p := range e.subs {
			if !p.finish() || !asked || p.cursor.FetchEpoch != e.lastEpoch {
				continue
			}
			switch p.request.answeredAt = time.Now(); {
			case end.Err != nil:
				p.handleError(end.Err, &later)
			case p.cursor.ConfirmedBy(end):
				p.cursor.CheckedBy = leader.NewEpoch(e.leaderEpoch)
			default:
				p.cursor.Lookup = partition.LookupRange
			}
		}
	}
	return true, nil
}
