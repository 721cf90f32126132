package live

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
)

// TestEveryCrashIsRepaired: a process crashes at one call of the store, or at one commit: before its
// effect, after it, or with an effect that comes late. Then a fresh process finishes, and each record
// is in one object. All calls of a run are tried in turn.
func TestEveryCrashIsRepaired(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 seconds")
	}
	for _, conditional := range []bool{true, false} {
		for _, f := range []fate{crashes, crashesLost, crashesLate} {
			t.Run(fmt.Sprintf("conditional=%v, %v", conditional, f), func(t *testing.T) {
				t.Parallel()
				for n := int64(1); ; n++ {
					if reached := crashAt(t, conditional, n, f); !reached || t.Failed() {
						break
					}
				}
			})
		}
	}
}

// crashAt crashes a process at call n. It returns false if the process has fewer calls.
func crashAt(t *testing.T, conditional bool, n int64, f fate) bool {
	s := newScene(t, 1, conditional, "size: 64KiB, every: 1h")
	s.produce(0, 5, 40<<10) // a range with two objects, and one at the end
	var calls atomic.Int64
	var name atomic.Pointer[string]
	p := s.start(func(call string) fate {
		if calls.Add(1) == n {
			name.Store(&call)
			return f
		}
		return succeeds
	})
	s.eventually("the publication of the first range", func() bool {
		offset, open := s.committed(0)
		return p.crashed.Load() || offset > 0 && !open && p.readAll()
	})
	p.stop()
	s.finish()
	if call := name.Load(); call != nil {
		if t.Failed() {
			t.Errorf("crashed at call %d: %s", n, *call)
		}
		return true
	}
	return false
}

// TestResentCommitIsNotTakenForItsFirstCopy: a commit takes effect, and its response is an error. The
// agent sends it again, and gets no response. It finds its first copy in force, but the second one is on
// its way, and would erase the plan that follows.
func TestResentCommitIsNotTakenForItsFirstCopy(t *testing.T) {
	s := newScene(t, 1, true, "size: 1MiB, every: 1s")
	s.produce(0, 2, 0)
	var commits, puts atomic.Int64
	p := s.start(func(call string) fate {
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
