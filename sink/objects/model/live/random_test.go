package live

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

var (
	steps = flag.Int("steps", 25, "number of steps of each run of TestRandomFaultsRepeatAndLoseNothing")
	seeds = flag.Uint64("seeds", 4, "number of runs of TestRandomFaultsRepeatAndLoseNothing")
	first = flag.Uint64("seed", 0, "seed of the first run of TestRandomFaultsRepeatAndLoseNothing")
)

// TestRandomFaultsRepeatAndLoseNothing: three processes start, stop and crash, while calls of the store
// and commits fail, lose their response, or arrive late, and the other events of the model happen. At the
// end a fresh process finishes, half of what is late arrives before it, and each record is in one object.
// A failure prints the seed and the schedule; see -seed. What the threads of a process do at the same
// time is not drawn, so a run with the same seed is not always the same.
func TestRandomFaultsRepeatAndLoseNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 seconds")
	}
	for seed := *first; seed < *first+*seeds; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			s := &storm{scene: newScene(t, 2, seed%2 == 0, "size: 64KiB, every: 1s"), random: rand.New(rand.NewPCG(seed, 20)), conditional: seed%2 == 0}
			if seed%4 > 1 {
				s.start = "latest"
			}
			s.logf("seed %d, start: %s", seed, s.start)
			for range *steps {
				s.step()
				time.Sleep(time.Duration(s.n(200)) * time.Millisecond)
			}
			s.calm()
		})
	}
}

// A storm draws what happens.
type storm struct {
	*scene
	conditional bool
	mu          sync.Mutex
	random      *rand.Rand
	quiet       bool
	running     [3]*process
}

func (s *storm) n(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

// fate draws the fate of a call.
func (s *storm) fate(string) fate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quiet || s.random.IntN(4) > 0 {
		return succeeds
	}
	return []fate{fails, loses, errs, late, late}[s.random.IntN(5)]
}

// step produces some records, and lets a process start, stop or crash, what is late arrive, or another
// event happen.
func (s *storm) step() {
	s.produce(s.n(2), 1+s.n(3), 1<<s.n(17))
	if s.n(3) == 0 {
		s.event()
		return
	}
	switch i := s.n(len(s.running)); {
	case s.running[i] == nil:
		s.running[i] = s.launch(s.fate)
	case s.n(3) == 0 && s.running[i].joined(): // else the group waits until its session has expired
		s.end(i, s.n(2) == 0)
	case s.n(6) == 0 && s.running[i].joined():
		p := s.rejoin(s.running[i])
		s.eventually("joining", p.joined) // meanwhile, the former process continues
		s.end(i, s.n(2) == 0)
		s.running[i] = p
	case s.n(2) == 0:
		s.arrive()
	}
}

// end stops or crashes a process.
func (s *storm) end(i int, crash bool) {
	if crash {
		s.running[i].dies()
	}
	s.running[i].stop()
	s.running[i] = nil
}

// endAll stops or crashes all processes.
func (s *storm) endAll(crash bool) {
	for i, p := range s.running {
		if p != nil {
			s.eventually("joining", p.joined)
			s.end(i, crash || s.n(2) == 0)
		}
	}
}

// event lets an event of the model happen. Events that require a group without members end all processes.
func (s *storm) event() {
	switch p := s.n(2); s.n(11) {
	case 0, 1:
		s.edit(s.n(edits))
	case 2:
		if s.conditional {
			s.retention(p, s.broker.PartitionInfo(topic, int32(p)).LogStartOffset+int64(1+s.n(4)))
		}
	case 3:
		if s.conditional {
			s.compaction(p, s.n(10))
		}
	case 4:
		s.recreate(false)
	case 5:
		s.endAll(true)
		s.recreate(true)
	case 6:
		s.endAll(true)
		s.mirror(s.n(4))
	case 7:
		s.endAll(s.n(3) == 0)
		s.reset(int32(p), s.n(10), s.n(2) == 0)
	case 8:
		s.endAll(false)
		s.expire()
	case 9:
		s.otherGroup(int32(p), 1+s.n(4))
	case 10:
		if s.transaction == nil {
			s.beginTransaction(p, 1+s.n(2))
		} else {
			s.endTransaction(s.n(2) == 0)
		}
	}
}

// calm ends the storm.
func (s *storm) calm() {
	s.mu.Lock()
	s.quiet = true
	s.mu.Unlock()
	if s.n(2) == 0 {
		s.arrive()
	}
	s.endAll(false)
	s.finish()
}
