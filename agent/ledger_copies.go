package agent

import (
	"crypto/rand"
	"sync"

	"kcagent/sink"
)

// ledgerCopies records which ledgers were found to be copies, and the new id of each. A file
// may hold many partitions, and each of them has to be compared once with what was
// committed under the former id. Its methods are safe for concurrent use; the zero value
// has no copies.
type ledgerCopies struct {
	mu      sync.Mutex
	renamed map[string]string                       // new id by former id
	former  map[string]string                       // former id by new id
	done    map[string]map[sink.TopicPartition]bool // partitions that were decided, by new id
}

// original returns the id to compare with the committed offset of a partition: the former
// id, if the ledger is a copy and the partition was not decided since that was found.
func (c *ledgerCopies) original(id string, tp sink.TopicPartition) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if former, ok := c.former[id]; ok && !c.done[id][tp] {
		return former
	}
	return id
}

// markDecided records that a partition of a ledger was decided; see original.
func (c *ledgerCopies) markDecided(id string, tp sink.TopicPartition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if done := c.done[id]; done != nil {
		done[tp] = true
	}
}

// rename records that a ledger is a copy, and returns its new id.
func (c *ledgerCopies) rename(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to, ok := c.renamed[id]; ok {
		return to
	}
	if c.renamed == nil {
		c.renamed, c.former = make(map[string]string), make(map[string]string)
		c.done = make(map[string]map[sink.TopicPartition]bool)
	}
	to := newID()
	c.renamed[id], c.former[to] = to, id
	c.done[to] = make(map[sink.TopicPartition]bool)
	return to
}

// current returns the new id of a ledger, or id if it is no copy.
func (c *ledgerCopies) current(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to, ok := c.renamed[id]; ok {
		return to
	}
	return id
}

// newID returns an identifier that is unique in practice: of a ledger, a lineage, or a
// consumer.
func newID() string { return rand.Text()[:12] }
