package model

import (
	"flag"
	"hash/maphash"
	"strings"
	"testing"
)

// An exhaustive search visits every state that two agents can reach with two records, a few
// generations, late and lost requests and lost responses. In each state it tries the end.
type exhaustive struct {
	rules       dropped
	generations int
	late        int // at most so many requests are on their way at the same time
	seed        maphash.Seed
	visited     map[uint64]struct{}
	path        []move
}

// A move is one event of the search.
type move struct {
	kind kind
	a, b int
}

func (x *exhaustive) begin() *world {
	w := newWorld(x.rules, true, false)
	w.produce(0, false)
	w.produce(0, false)
	w.rebalance(3, 0)
	return w
}

// make makes a move. It is false if the move is not possible.
func (m move) make(w *world) bool {
	switch m.kind {
	case rebalance:
		w.rebalance(m.a, m.b)
	case assign:
		w.assign(m.a, false)
	case arrive:
		w.deliver(m.a, outcome(m.b))
	case timeOut:
		return w.timeOut(&w.workers[m.a])
	default:
		k := &w.workers[m.a]
		if k.phase != running {
			return m.b == 0 && w.step(k, read)
		}
		return w.act(k, action(m.b))
	}
	return true
}

// moves returns all moves that may be possible.
func (x *exhaustive) moves(w *world) (all []move) {
	if w.group.generation < x.generations {
		all = append(all, move{rebalance, 2, 1}, move{rebalance, 3, 0}, move{rebalance, 3, 1})
	}
	for i := range w.agents[:2] {
		if w.agents[i].assigned {
			all = append(all, move{assign, i, 0})
		}
	}
	for i := range w.workers {
		if w.workers[i].phase >= failed {
			continue
		}
		all = append(all, move{timeOut, i, 0})
		if len(w.messages) < x.late {
			for a := range lastAction + 1 {
				all = append(all, move{step, i, int(a)})
			}
		}
	}
	for i := range w.messages {
		all = append(all, move{arrive, i, int(answered)}, move{arrive, i, int(noResponse)})
	}
	return all
}

// visit visits a state and all that follow from it. It returns the violation.
func (x *exhaustive) visit(w *world) string {
	key := x.hash(w)
	if _, ok := x.visited[key]; ok {
		return ""
	}
	x.visited[key] = struct{}{}
	c := w.clone()
	if c.finish(^uint64(0)); c.violated != "" { // all requests arrive late; others arrive in other states
		return c.violated + " at the end"
	}
	for _, m := range x.moves(w) {
		c := w.clone()
		if !m.make(c) {
			continue
		}
		x.path = append(x.path, m)
		if c.violated != "" {
			return c.violated
		}
		if violated := x.visit(c); violated != "" {
			return violated
		}
		x.path = x.path[:len(x.path)-1]
	}
	return ""
}

// hash does not depend on the order of objects and requests, nor on what a worker that has ended
// would know.
func (x *exhaustive) hash(w *world) uint64 {
	h := maphash.Comparable(x.seed, w.group) ^ maphash.Comparable(x.seed, w.agents)
	for i := range w.store.objects {
		h ^= maphash.Comparable(x.seed, w.store.objects[i])
	}
	for i := range w.workers {
		k := w.workers[i]
		if k.phase >= failed {
			k = worker{id: k.id, phase: k.phase}
		}
		h ^= maphash.Comparable(x.seed, k)
	}
	for i := range w.messages {
		h ^= maphash.Comparable(x.seed, w.messages[i])
	}
	return h
}

// String is the way to the violation.
func (x *exhaustive) String() string {
	var b strings.Builder
	w := x.begin()
	w.trace = &b
	for _, m := range x.path {
		m.make(w)
	}
	return b.String()
}

var (
	generations = flag.Int("generations", 2, "number of generations of TestNoStateOfTwoAgentsViolates")
	late        = flag.Int("late", 1, "number of requests that are on their way at the same time in TestNoStateOfTwoAgentsViolates")
)

// TestNoStateOfTwoAgentsViolates visits all states of a small world. Without a rule that concerns this
// world, it finds a violation.
func TestNoStateOfTwoAgentsViolates(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 seconds with the race detector")
	}
	for _, test := range []struct {
		rules dropped
		late  int
	}{
		{0, *late},
		{without(planFirst), 1},
		{without(putAfterPlan), 1},
		{without(adopt), 1},
		{without(ownToken), 1},
		{without(unknownResult, noResend), 2},
	} {
		t.Run(test.rules.String(), func(t *testing.T) {
			t.Parallel()
			x := &exhaustive{rules: test.rules, generations: *generations, late: test.late, seed: maphash.MakeSeed(), visited: make(map[uint64]struct{})}
			violated := x.visit(x.begin())
			t.Logf("%d states", len(x.visited))
			if (violated == "") != (test.rules == 0) {
				t.Errorf("got %q:\n%v", violated, x)
			}
		})
	}
}
