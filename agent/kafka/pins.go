package kafka

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"kcagent/fetch"
)

// brokersKey identifies a list of brokers, whatever its order.
func brokersKey(brokers []string) string {
	return strings.Join(slices.Sorted(slices.Values(brokers)), ",")
}

// hashBrokers identifies a list of brokers in a checkpoint, whatever its order.
func hashBrokers(brokers []string) string {
	sum := sha256.Sum256([]byte(brokersKey(brokers)))
	return hex.EncodeToString(sum[:8])
}

// pin returns the pin of a list of brokers. It outlives the fetchers that use it: if the
// only consumer of a cluster is replaced or stopped, or its TLS and SASL settings change,
// the consumer stays with the cluster. cs.mu is held.
func (cs *Clusters) pin(brokers []string) *fetch.Pin {
	key := brokersKey(brokers)
	p := cs.pins[key]
	if p == nil {
		p = fetch.NewPin("")
		if cs.pins == nil {
			cs.pins = make(map[string]*fetch.Pin)
		}
		cs.pins[key] = p
	}
	return p
}

// Pinned returns the id of the cluster that a list of brokers is pinned to; "" if it is
// not known.
func (cs *Clusters) Pinned(brokers []string) string {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if p := cs.pins[brokersKey(brokers)]; p != nil {
		return p.ID()
	}
	return ""
}

// ForgetPins removes the pins of lists of brokers that are not in use. It is called before
// an edit is applied: the edit may move consumers back to a former list, which may lead to
// another cluster by then.
func (cs *Clusters) ForgetPins(inUse [][]string) {
	used := make(map[string]bool)
	for _, b := range inUse {
		used[brokersKey(b)] = true
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.inUse { // a consumer that is stopping still uses it
		used[brokersKey(c.Reach.Brokers)] = true
	}
	for key := range cs.pins {
		if !used[key] {
			delete(cs.pins, key)
		}
	}
}

// A ClusterReplacedError reports that the brokers belong to another cluster than the one
// from which a file was written.
type ClusterReplacedError struct {
	Brokers  []string
	Was, Now string // ids of the clusters
}

// Error names both clusters and the next step.
func (e *ClusterReplacedError) Error() string {
	return fmt.Sprintf("brokers %s belong to cluster %s now, and the file was written from cluster %s: restore the former cluster; "+
		"to read the new one, edit brokers to name it by other addresses, or stop the consumer and move the file and its +checkpoint away",
		strings.Join(e.Brokers, ","), e.Now, e.Was)
}
