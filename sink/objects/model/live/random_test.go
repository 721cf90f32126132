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
	seeds = flag.Uint64("seeds", 2, "number of runs of TestRandomFaultsRepeatAndLoseNothing")
)

// TestRandomFaultsRepeatAndLoseNothing: three processes start, stop and crash, while calls of the store
// and commits fail, lose their response, or arrive late. At the end a fresh process finishes, half of
// what is late arrives before it, and each record is in one object.
func TestRandomFaultsRepeatAndLoseNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 seconds")
	}
	for seed := range *seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			s := &storm{scene: newScene(t, 2, seed%2 == 0, "size: 64KiB, every: 1s"), random: rand.New(rand.NewPCG(seed, 20))}
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
	mu      sync.Mutex
	random  *rand.Rand
	quiet   bool
	running [3]*process
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

// step produces some records, and lets a process start, stop or crash, or what is late arrive.
func (s *storm) step() {
	s.produce(s.n(2), 1+s.n(3), 1<<s.n(17))
	switch i := s.n(len(s.running)); {
	case s.running[i] == nil:
		s.running[i] = s.start(s.fate)
	case s.n(3) == 0 && s.running[i].joined(): // else the group waits until its session has expired
		if s.n(2) == 0 {
			s.running[i].dies()
		}
		s.running[i].stop()
		s.running[i] = nil
	case s.n(2) == 0:
		s.arrive()
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
	for _, p := range s.running {
		if p != nil {
			s.eventually("joining", p.joined)
			if s.n(2) == 0 {
				p.dies()
			}
			p.stop()
		}
	}
	s.finish()
}
