package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"kcagent/sink"
)

// A memory is a sink that fails on demand. Its content survives the agent.
type memory struct {
	sink.Unplanned
	sink.AnyTime
	mu      sync.Mutex
	recs    []stored
	opens   int
	flushes int
	ended   []bool // the argument of each Close

	keepsLedger bool
	id          string
	ledger      map[sink.TopicPartition]sink.Position
	durable     map[sink.TopicPartition]sink.Position
	adoptions   []string // "t/0=5"

	writeErr, flushErr error
	bad                map[sink.TopicPartition]partitionFault // of single partitions
	reopen             map[sink.TopicPartition]bool           // until Resume
	room               int
}

// A partitionFault says which calls fail for one partition.
type partitionFault struct{ open, write, flush error }

type stored struct {
	sink.TopicPartition
	text    string // "topic/partition@offset=value"
	flushed bool
}

func (m *memory) open(context.Context, sink.Spec, sink.Options) (sink.Sink, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opens++
	m.ledger = maps.Clone(m.durable)
	if m.ledger == nil {
		m.ledger = make(map[sink.TopicPartition]sink.Position)
	}
	if m.keepsLedger && m.id == "" {
		m.id = "memory"
	}
	m.reopen = make(map[sink.TopicPartition]bool)
	return m, nil
}

func (m *memory) Encoder(sink.TopicPartition) sink.Encoder { return m }

func (m *memory) ValueOnly() bool { return false }

func (m *memory) Append(dst []byte, r *sink.Record) []byte {
	return fmt.Appendf(dst, "%s/%d@%d=%s\n", r.Topic, r.Partition, r.Offset, r.Value)
}

func (m *memory) Limits(sink.TopicPartition) (sink.Limits, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sink.Limits{Bytes: m.room}, true
}

func (m *memory) Write(_ context.Context, c sink.Chunk) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch err := m.bad[c.TopicPartition].write; {
	case m.reopen[c.TopicPartition]:
		return fmt.Errorf("write: %w", sink.ErrReopen)
	case err != nil:
		return err
	case m.writeErr != nil:
		return m.writeErr
	}
	if c.Large != nil {
		c.Data, c.Last = m.Append(nil, c.Large), 0
	}
	if last := strings.LastIndexByte(strings.TrimSuffix(string(c.Data), "\n"), '\n') + 1; c.Last != last {
		panic(fmt.Sprintf("the last record of %q begins at %d, not at %d", c.Data, last, c.Last))
	}
	for line := range strings.Lines(string(c.Data)) {
		m.recs = append(m.recs, stored{c.TopicPartition, strings.TrimSuffix(line, "\n"), false})
	}
	p := m.ledger[c.TopicPartition]
	p.Next, p.Epoch = c.Next, c.Epoch
	m.ledger[c.TopicPartition] = p
	return nil
}

func (m *memory) Flush(context.Context, bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flushes++
	if m.flushErr != nil && !errors.Is(m.flushErr, sink.ErrReopen) {
		return m.flushErr
	}
	failed := make(map[sink.TopicPartition]error)
	for tp := range m.ledger {
		err := m.bad[tp].flush
		if err == nil {
			err = m.flushErr
		}
		if errors.Is(err, sink.ErrReopen) {
			m.reopen[tp] = true
		}
		if m.reopen[tp] {
			err = fmt.Errorf("sync: %w", sink.ErrReopen)
		}
		if err != nil {
			failed[tp] = err
			continue
		}
		if m.durable == nil {
			m.durable = make(map[sink.TopicPartition]sink.Position)
		}
		m.durable[tp] = m.ledger[tp]
	}
	for i := range m.recs {
		if failed[m.recs[i].TopicPartition] == nil {
			m.recs[i].flushed = true
		}
	}
	if len(failed) > 0 {
		return &sink.FlushError{Failed: failed}
	}
	return nil
}

func (m *memory) Update(sink.Spec) error { return nil }

// Resume drops records that were not flushed, if the partition has to be reopened.
func (m *memory) Resume(_ context.Context, tp sink.TopicPartition, _ sink.Commits) (sink.Ledger, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.bad[tp].open; err != nil {
		return sink.Ledger{}, err
	}
	if m.reopen[tp] {
		delete(m.reopen, tp)
		kept := m.recs[:0:0]
		for _, r := range m.recs {
			if r.flushed || r.TopicPartition != tp {
				kept = append(kept, r)
			}
		}
		m.recs = kept
		delete(m.ledger, tp)
		if p, ok := m.durable[tp]; ok {
			m.ledger[tp] = p
		}
	}
	p, ok := m.ledger[tp]
	if !m.keepsLedger || !ok {
		p = sink.Position{Next: -1}
	}
	if !m.keepsLedger {
		return sink.Ledger{Position: p}, nil
	}
	return sink.Ledger{ID: m.id, Position: p}, nil
}

func (m *memory) Adopt(_ context.Context, tp sink.TopicPartition, id string, p sink.Position) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.id, m.ledger[tp] = id, p
	m.adoptions = append(m.adoptions, fmt.Sprintf("%s/%d=%d", tp.Topic, tp.Partition, p.Next))
	return nil
}

func (m *memory) Release() error { return nil }

func (m *memory) Close(end bool) error {
	err := m.Flush(context.Background(), true)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = append(m.ended, end)
	return err
}

func (m *memory) fail(write, flush error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writeErr, m.flushErr = write, flush
}

// failPartition makes the calls for one partition fail.
func (m *memory) failPartition(partition int32, f partitionFault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bad == nil {
		m.bad = make(map[sink.TopicPartition]partitionFault)
	}
	m.bad[sink.TopicPartition{Topic: "t", Partition: partition}] = f
}

func (m *memory) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	texts := make([]string, len(m.recs))
	for i, r := range m.recs {
		texts[i] = r.text
	}
	return texts
}
