package offsets

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"kcagent/sink"
)

// A simulation has two agents, each with a file, that take turns in consuming a partition.
// They crash at any step, and sometimes an operator resets the committed offset.
type simulation struct {
	*testing.T
	rand      *rand.Rand
	committed Committed
	highest   map[string]int64 // committed of each lineage
	hosts     [2]*host
	lineages  int
	reset     int64 // the offset that the operator has set and no agent has applied yet; -1 if none
	history   []string
}

// A host has what survives the crash of an agent.
type host struct {
	ledger sink.Ledger
	stored map[string]map[int64]bool // offsets in the file, by lineage
}

func (s *simulation) log(format string, args ...any) {
	s.history = append(s.history, fmt.Sprintf(format, args...))
}

func (s *simulation) fail(format string, args ...any) {
	s.Helper()
	s.Fatalf("%s\n%v", fmt.Sprintf(format, args...), s.history)
}

func (s *simulation) crashes() bool { return s.rand.IntN(6) == 0 }

func (s *simulation) commit(h *host) {
	at := h.ledger.Position
	s.committed = Committed{Offset: at.Next, ByAgent: true, Meta: Metadata{Ledger: h.ledger.ID, Lineage: at.Lineage, Topic: at.Topic, Partitions: -1}}
	if at.Next < s.highest[at.Lineage] {
		s.fail("the committed offset of lineage %s moves back to %d", at.Lineage, at.Next)
	}
	s.highest[at.Lineage] = at.Next
	s.log("commit %d %s", at.Next, at.Lineage)
}

// commitEarlyStart is one run of an agent that cannot open its file.
func (s *simulation) commitEarlyStart() {
	if d := Decide(s.committed, noLedger, here, latest); d.StartMoves() {
		s.lineages++
		s.committed = committedEarly(s.rand.Int64N(4), fmt.Sprint(s.lineages), here)
		s.log("commit start %d", s.committed.Offset)
	}
}

// turn is one run of an agent on a host.
func (s *simulation) turn(i int) {
	h := s.hosts[i]
	d := Decide(s.committed, h.ledger, here, earliest)
	s.log("host %d: %s at %d", i, d.Reason.Message, d.Offset)
	if d.Copied {
		s.fail("a ledger that is no copy is taken for one")
	}
	if d.Offset < 0 {
		d.Offset = 0
	}
	if s.reset >= 0 && d.Offset != s.reset {
		s.fail("resumes at %d, the operator has set %d", d.Offset, s.reset)
	}
	if d.Lineage == "" {
		s.lineages++
		d.Lineage = fmt.Sprint(s.lineages)
	}
	if s.crashes() {
		return
	}
	if d.Adopt {
		h.ledger.Position = sink.Position{Next: d.Offset, Lineage: d.Lineage, Topic: here}
	}
	if s.crashes() {
		return
	}
	if d.Commit {
		s.commit(h)
		if s.reset = -1; s.crashes() {
			return
		}
	}
	for range 1 + s.rand.IntN(4) {
		s.store(h, 1+s.rand.Int64N(5))
		if s.crashes() {
			return
		}
		s.commit(h)
	}
}

// store stores and flushes n records.
func (s *simulation) store(h *host, n int64) {
	at := &h.ledger.Position
	for range n {
		if h.stored[at.Lineage] == nil {
			h.stored[at.Lineage] = make(map[int64]bool)
		}
		if h.stored[at.Lineage][at.Next] {
			s.fail("offset %d is in the file twice", at.Next)
		}
		h.stored[at.Lineage][at.Next] = true
		at.Next++
	}
	s.log("flush %d", at.Next)
}

// TestDecisionsLoseNothingWhateverCrashes: no record of a lineage is lost or stored
// twice in one file, a reset is applied, and committed offsets of a lineage never move back.
func TestDecisionsLoseNothingWhateverCrashes(t *testing.T) {
	for seed := range uint64(3000) {
		s := &simulation{T: t, rand: rand.New(rand.NewPCG(seed, 1)), committed: nothing, highest: make(map[string]int64), reset: -1}
		for i := range s.hosts {
			s.hosts[i] = &host{ledger: sink.Ledger{ID: fmt.Sprint("host", i), Position: sink.Position{Next: -1}}, stored: make(map[string]map[int64]bool)}
		}
		for range 12 {
			if s.rand.IntN(4) == 0 {
				s.commitEarlyStart()
			}
			s.turn(s.rand.IntN(2))
			if s.committed.Offset > 0 && s.rand.IntN(5) == 0 {
				s.reset = s.rand.Int64N(s.committed.Offset + 3)
				s.committed = external(s.reset)
				s.log("reset to %d", s.reset)
			}
		}
		s.wantNoLoss()
	}
}

// wantNoLoss checks that each offset of a lineage, from the first one to the last committed
// one, is in a file.
func (s *simulation) wantNoLoss() {
	for lineage, end := range s.highest {
		least := end
		for _, h := range s.hosts {
			for at := range h.stored[lineage] {
				least = min(least, at)
			}
		}
		for at := least; at < end; at++ {
			if !s.hosts[0].stored[lineage][at] && !s.hosts[1].stored[lineage][at] {
				s.fail("offset %d of lineage %s is lost", at, lineage)
			}
		}
	}
}
