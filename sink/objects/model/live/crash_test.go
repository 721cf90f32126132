package live

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A happening is an event of the model beside a crash.
type happening struct {
	name   string
	before func(s *scene)        // the process starts; nil is nothing
	do     func(s *scene, n int) // n varies it
	alive  bool                  // it is also possible while a process is a member
	prompt bool                  // without conditional writes, no upload may be late (limit 4 of the protocol)
}

var happenings = []happening{
	{name: "nothing", do: func(*scene, int) {}},
	{name: "edit", do: func(s *scene, n int) { s.edit(1 + n*5%(edits-1)) }},
	{name: "edit of decoding", before: func(s *scene) { s.edit(edits*2/3 + 4) }, do: func(s *scene, n int) { s.edit(n * 5 % (edits * 2 / 3)) }},
	{name: "retention", do: func(s *scene, n int) { s.retention(0, int64(1+n/2%3)) }, alive: true, prompt: true},
	{name: "compaction", do: func(s *scene, n int) { s.compaction(0, n) }, alive: true, prompt: true},
	{name: "recreated topic", do: func(s *scene, n int) { s.recreate(false); s.produce(0, n%8, 0) }, alive: true},
	{name: "recreated topic, offsets kept", do: func(s *scene, n int) { s.recreate(true); s.produce(0, n%4, 0) }},
	{name: "mirror", do: func(s *scene, n int) { s.mirror(n % 4) }},
	{name: "reset", do: func(s *scene, n int) { s.reset(0, n, false) }},
	{name: "reset that keeps the metadata", do: func(s *scene, n int) { s.reset(0, n, true) }},
	{name: "expiry", do: func(s *scene, _ int) { s.expire() }},
	{name: "another group", do: func(s *scene, n int) { s.otherGroup(0, 1+n%5) }, alive: true},
	{name: "committed transaction", before: openTransaction, do: func(s *scene, _ int) { s.endTransaction(true) }, alive: true},
	{name: "aborted transaction in the range", before: abortTransaction, do: func(*scene, int) {}},
	{name: "aborted transaction", before: openTransaction, do: func(s *scene, _ int) { s.endTransaction(false) }, alive: true},
	{name: "latest", before: func(s *scene) { s.start = "latest" }, do: func(s *scene, _ int) { s.produce(0, 1, 0) }},
}

// openTransaction produces records of a transaction that has not ended, and one after it.
func openTransaction(s *scene) {
	s.produce(0, 3, 40<<10)
	s.beginTransaction(0, 2)
}

// abortTransaction lets the first range have records that were aborted.
func abortTransaction(s *scene) {
	s.produce(0, 1, 0)
	s.beginTransaction(0, 2)
	s.endTransaction(false)
}

// everyCall runs a test with n from 1 on, until it returns false: the process has fewer calls. Several
// scenes run at the same time, because each of them mostly waits.
func everyCall(t *testing.T, test func(t *testing.T, n int) (reached bool)) {
	t.Helper()
	var next atomic.Int64
	var over atomic.Bool
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for !over.Load() {
				n := int(next.Add(1))
				ok := t.Run(fmt.Sprintf("call %d", n), func(t *testing.T) {
					if !test(t, n) {
						over.Store(true)
					}
				})
				if !ok {
					over.Store(true)
				}
			}
		})
	}
	all.Wait()
}

// TestEveryCrashIsRepaired: a process crashes at one call of the store, or at one commit: before its
// effect, after it, or with an effect that comes late. Another event happens. Then a fresh process
// finishes, and each record is in one object. All calls of a run are tried in turn.
func TestEveryCrashIsRepaired(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20 seconds")
	}
	for i, h := range happenings {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			all := []fate{crashes, crashesLost, crashesLate}
			if !h.prompt { // one fate a call
				everyCall(t, func(t *testing.T, n int) bool { return crashAt(t, h, n, all[(n+i)%3], (n/3+i)%2 == 0) })
				return
			}
			for _, f := range all {
				everyCall(t, func(t *testing.T, n int) bool { return crashAt(t, h, n, f, f == crashesLate) })
			}
		})
	}
}

// crashAt crashes a process at call n. It returns false if the process has fewer calls.
func crashAt(t *testing.T, h happening, n int, f fate, conditional bool) bool {
	s := newScene(t, 1, conditional, "size: 64KiB, every: 1h")
	var calls atomic.Int64
	var reached atomic.Bool
	p := h.begin(s, func(call string) fate {
		if calls.Add(1) == int64(n) {
			reached.Store(true)
			return f
		}
		return succeeds
	})
	s.eventually("the publication of the first range", func() bool {
		c := s.commits()[0]
		return p.crashed.Load() || c.offset > 0 && !c.open && p.readStable()
	})
	p.stop()
	h.do(s, n)
	s.finish()
	return reached.Load()
}

// begin produces records, and starts a process: there is a range with two objects, and one at the end.
func (h *happening) begin(s *scene, fate func(string) fate) *process {
	s.Helper()
	if h.before != nil {
		h.before(s)
	}
	if s.start == "earliest" {
		s.produce(0, 5, 40<<10)
		return s.launch(fate)
	}
	s.produce(0, 1, 0)
	p := s.launch(fate)
	s.eventually("the start", func() bool { return p.crashed.Load() || p.readAll() })
	s.produce(0, 5, 40<<10)
	return p
}

// TestEventsDuringEachCall: an event happens while a process waits for the response of a call. The
// process continues. All calls of a run are tried in turn.
func TestEventsDuringEachCall(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 seconds")
	}
	for i, h := range happenings {
		if !h.alive {
			continue
		}
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			everyCall(t, func(t *testing.T, n int) bool { return happenAt(t, h, n, (n+i)%2 == 0) })
		})
	}
}

// happenAt lets an event happen during call n. It returns false if the process has fewer calls.
func happenAt(t *testing.T, h happening, n int, conditional bool) bool {
	s := newScene(t, 1, conditional, "size: 64KiB, every: 1h")
	var calls atomic.Int64
	var reached atomic.Bool
	var acting sync.Mutex // the event does not happen while records are produced
	p := h.begin(s, func(call string) fate {
		if calls.Add(1) == int64(n) {
			acting.Lock()
			defer acting.Unlock()
			s.logf("during the call %d, %s:", n, call)
			h.do(s, n)
			reached.Store(true)
		}
		return succeeds
	})
	s.eventually("the event, or the publication of the first range", func() bool {
		c := s.commits()[0]
		return reached.Load() || calls.Load() < int64(n) && c.offset > 0 && !c.open && p.readStable()
	})
	acting.Lock()
	s.produce(0, 2, 40<<10)
	acting.Unlock()
	if reached.Load() {
		s.eventually("reading what is stable", p.readStable)
	}
	p.stop()
	s.finish()
	return reached.Load()
}

// TestResentCommitIsNotTakenForItsFirstCopy: a commit takes effect, and its response is an error. The
// agent sends it again, and gets no response. It finds its first copy in force, but the second one is on
// its way, and would erase the plan that follows.
func TestResentCommitIsNotTakenForItsFirstCopy(t *testing.T) {
	s := newScene(t, 1, true, "size: 1MiB, every: 1s")
	s.produce(0, 2, 0)
	var commits, puts atomic.Int64
	p := s.launch(func(call string) fate {
		switch {
		case strings.HasPrefix(call, "commit"):
			switch commits.Add(1) {
			case 1:
				return errs
			case 2:
				return late
			}
		case strings.HasPrefix(call, "put") && puts.Add(1) == 1:
			return hangs
		}
		return succeeds
	})
	s.eventually("an upload", func() bool { return puts.Load() > 0 })
	s.arrive() // the commit
	s.arriving.Wait()
	p.dies()
	p.stop()
	s.finish() // the upload arrives after the fresh process
}
