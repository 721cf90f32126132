package agent

import (
	"crypto/rand"
	"sync"

	"kcagent/sink"
)

// ledgerCopies knows the ledgers that were found to be copies, and which id each has
// from then on. A file may hold many partitions, and each of them is compared with
// what was committed under the former id once.
type ledgerCopies struct {
	mu      sync.Mutex
	renamed map[string]string                       // new ids by former ids
	former  map[string]string                       // and the reverse
	done    map[string]map[sink.TopicPartition]bool // by new ids
}

// original returns the former id of a ledger for a partition that has not been decided
// since it was renamed.
func (c *ledgerCopies) original(id string, tp sink.TopicPartition) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if former, ok := c.former[id]; ok && !c.done[id][tp] {
		return former
	}
	return id
}

// markDecided records that a partition of a ledger was decided.
func (c *ledgerCopies) markDecided(id string, tp sink.TopicPartition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if done := c.done[id]; done != nil {
		done[tp] = true
	}
}

// rename returns the new id of a copy.
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

// current returns the id that a ledger has now.
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
