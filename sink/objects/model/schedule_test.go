package model

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// A scenario says which rules hold, and which events happen, with their weights.
type scenario struct {
	rules         dropped
	unconditional bool // the store has no conditional writes
	inOrder       bool // requests of commits arrive in the order in which they were sent
	prompt        bool // a PUT arrives at once, so that none is late
	latest        bool // the start policy is always latest; else by the seed
	weights       [kinds]int
}

// faults returns weights of the events that every schedule needs, and of further ones.
func faults(further ...kind) (weights [kinds]int) {
	for k, n := range map[kind]int{produce: 12, step: 60, arrive: 30, rebalance: 4, assign: 8, start: 3} {
		weights[k] = n
	}
	for _, k := range further {
		weights[k] = map[kind]int{
			endTransaction: 5, retention: 3, compaction: 3, edit: 2, recreate: 1, mirror: 1, reset: 2, expire: 1,
			otherGroup: 3, crash: 3, rejoin: 2, earlyFetch: 3, drop: 2, timeOut: 5,
		}[k]
	}
	return weights
}

// more returns the weights with that of k set to n.
func more(weights [kinds]int, k kind, n int) [kinds]int {
	weights[k] = n
	return weights
}

// allFaults are the events that the protocol survives on a store with conditional writes.
func allFaults() [kinds]int {
	all := make([]kind, 0, kinds)
	for k := range kinds {
		all = append(all, k)
	}
	w := faults(all...)
	for k, n := range faults() {
		w[k] = max(w[k], n)
	}
	return w
}

// A schedule is a list of events, and how the end is drawn.
type schedule struct {
	scenario *scenario
	latest   bool
	events   []event
	end      uint64 // random bits
}

// length is how many events a schedule has before its end.
const length = 70

// draw draws schedule number seed of a scenario.
func draw(s *scenario, seed uint64, reuse []event) schedule {
	random := rand.NewPCG(seed, 20)
	events := reuse[:0]
	total := 0
	for _, n := range s.weights {
		total += n
	}
	for range length {
		bits := random.Uint64()
		n := int(bits>>32) % total
		k := kind(0)
		for ; n >= s.weights[k]; k++ {
			n -= s.weights[k]
		}
		events = append(events, event{k, uint8(bits), uint8(bits >> 8)})
	}
	end := random.Uint64()
	return schedule{s, s.latest || end&1 == 0, events, end >> 1}
}

// run runs the schedule and returns the violation, "" if there is none. It writes what happens to
// trace, if not nil.
func (s schedule) run(trace *strings.Builder) (violated string, w *world) {
	w = newWorld(s.scenario.rules, !s.scenario.unconditional, s.latest)
	w.trace, w.inOrder, w.prompt = trace, s.scenario.inOrder, s.scenario.prompt
	for _, e := range s.events {
		if w.do(e); w.violated != "" {
			return w.violated, w
		}
	}
	w.finish(s.end)
	return w.violated, w
}

// finish is the end of a schedule: the faults stop, and a fresh agent finishes. Half of the messages
// arrive before, the others after it. Then all zombies continue.
func (w *world) finish(random uint64) {
	w.say("the faults stop")
	for range 2 {
		w.endTransaction(random&1 == 0)
	}
	random >>= 1
	for i := 0; i < len(w.messages) && w.violated == ""; random >>= 1 {
		if random&1 == 0 {
			w.deliver(i, answered)
		} else {
			i++
		}
	}
	waiting := w.messages
	w.messages = nil
	const fresh = agents - 1
	w.agents[fresh].alive = true
	w.rebalance(1<<fresh, fresh)
	n := len(w.workers)
	w.assignFresh(fresh)
	w.drain(n)
	k := &w.workers[n]
	if !w.group.exists { // nothing to do, so the start policy decides again
		w.skipped |= w.topic.records(0, k.growing.first) &^ w.promised
	}
	if w.violated == "" && (k.phase != running || k.planned || k.sent || !k.growing.records.empty() || !w.missing(w.topic.end()).empty()) {
		w.violate("the fresh agent does not finish")
	}
	w.say("the other requests arrive")
	w.messages = append(w.messages, waiting...)
	for len(w.messages) > 0 && w.violated == "" {
		w.deliver(0, answered)
	}
	for i := range w.workers {
		if w.workers[i].phase < failed && w.violated == "" {
			w.timeOut(&w.workers[i])
			w.drain(i)
		}
	}
	w.checkLost()
	w.checkObjects()
}

// assignFresh assigns the partition to the fresh agent.
func (w *world) assignFresh(who int) {
	x := &w.agents[who]
	x.token, x.assigned = x.next, false
	w.workers = append(w.workers, worker{id: len(w.workers), agent: who, token: x.token})
}

// drain lets a worker act until it has nothing to do. Its requests are answered.
func (w *world) drain(i int) {
	for range 100 {
		if w.violated != "" {
			return
		}
		acted := w.step(&w.workers[i], read)
		if !acted && len(w.messages) == 0 {
			return
		}
		for len(w.messages) > 0 && w.violated == "" {
			w.deliver(0, answered)
		}
	}
}

// search runs schedules from number 0 on, until one violates an invariant. It returns how many it
// has run.
func search(s *scenario, from, to uint64) (found *schedule, n uint64) {
	var events []event
	for seed := from; seed < to; seed++ {
		d := draw(s, seed, events)
		events = d.events
		if violated, _ := d.run(nil); violated != "" {
			return &d, seed - from + 1
		}
	}
	return nil, to - from
}

// shrink removes events as long as the schedule violates the same invariant.
func (s schedule) shrink() schedule {
	_, before := s.run(nil)
	violates := func(events []event) bool {
		t := s
		t.events = events
		_, w := t.run(nil)
		return w.broken == before.broken
	}
	events := append([]event(nil), s.events...)
	for size := len(events) / 2; size > 0; {
		removed := false
		for at := 0; at+size <= len(events); {
			fewer := append(append([]event(nil), events[:at]...), events[at+size:]...)
			if violates(fewer) {
				events, removed = fewer, true
			} else {
				at += size
			}
		}
		if !removed || size > 1 {
			size /= 2
		}
	}
	s.events = events
	return s
}

// String is the schedule as a reader follows it.
func (s schedule) String() string {
	var b strings.Builder
	violated, _ := s.run(&b)
	return fmt.Sprintf("%v, %d events\n%s  VIOLATED: %s", s.scenario.rules, len(s.events), b.String(), violated)
}
