package offsets

import (
	"crypto/rand"
	"sync"

	"kcagent/sink"
)

// LedgerCopies records which ledgers were found to be copies, and the new id of each. A file
// may hold many partitions, and each of them has to be compared once with what was
// committed under the former id. Its methods are safe for concurrent use; the zero value
// has no copies.
type LedgerCopies struct {
	mu      sync.Mutex
	renamed map[string]string                       // new id by former id
	former  map[string]string                       // former id by new id
	done    map[string]map[sink.TopicPartition]bool // partitions that were decided, by new id
}

// Original returns the id to compare with the committed offset of a partition: the former
// id, if the ledger is a copy and the partition was not decided since that was found.
func (c *LedgerCopies) Original(id string, tp sink.TopicPartition) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if former, ok := c.former[id]; ok && !c.done[id][tp] {
		return former
	}
	return id
}

// MarkDecided records that a partition of a ledger was decided; see Original.
func (c *LedgerCopies) MarkDecided(id string, tp sink.TopicPartition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if done := c.done[id]; done != nil {
		done[tp] = true
	}
}

// Rename records that a ledger is a copy, and returns its new id.
func (c *LedgerCopies) Rename(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to, ok := c.renamed[id]; ok {
		return to
	}
	if c.renamed == nil {
		c.renamed, c.former = make(map[string]string), make(map[string]string)
		c.done = make(map[string]map[sink.TopicPartition]bool)
	}
	to := NewID()
	c.renamed[id], c.former[to] = to, id
	c.done[to] = make(map[sink.TopicPartition]bool)
	return to
}

// Current returns the new id of a ledger, or id if it is no copy.
func (c *LedgerCopies) Current(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to, ok := c.renamed[id]; ok {
		return to
	}
	return id
}

// NewID returns an identifier that is unique in practice: of a ledger, a lineage, or a
// consumer.
func NewID() string { return rand.Text()[:12] }
