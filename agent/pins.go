package agent

import (
	"slices"
	"strings"

	"kcagent/fetch"
)

// pinKey identifies a list of brokers, in any order.
func pinKey(brokers []string) string {
	return strings.Join(slices.Sorted(slices.Values(brokers)), ",")
}

// pin returns the pin of a list of brokers. It outlives the fetchers that use it: the
// only consumer of a cluster may be replaced or stopped, and TLS and SASL may change,
// without a move to another cluster. cs.mu is held.
func (cs *clusters) pin(brokers []string) *fetch.Pin {
	key := pinKey(brokers)
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

// pinned returns the id of the cluster that a list of brokers is pinned to; "" if it is
// not known.
func (cs *clusters) pinned(brokers []string) string {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if p := cs.pins[pinKey(brokers)]; p != nil {
		return p.ID()
	}
	return ""
}

// forgetPins removes the pins of lists of brokers that are not in use. It is called
// before an edit is applied: the edit may move consumers back to a former list, which may
// lead to another cluster now.
func (cs *clusters) forgetPins(inUse [][]string) {
	used := make(map[string]bool)
	for _, brokers := range inUse {
		used[pinKey(brokers)] = true
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.open { // a consumer that is ending still uses it
		used[pinKey(c.spec.Brokers)] = true
	}
	for key := range cs.pins {
		if !used[key] {
			delete(cs.pins, key)
		}
	}
}
