package agent

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/config"
)

func TestAdmissionLetsInAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission()
		var inside, most, through atomic.Int32
		for range 1000 {
			go func() {
				leave, err := a.enter(t.Context())
				if err != nil {
					return
				}
				if n := inside.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(time.Millisecond)
				inside.Add(-1)
				through.Add(1)
				leave()
				leave()
			}()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if most.Load() != admitted || through.Load() != 1000 {
			t.Errorf("%d at a time, %d in all; want %d and 1000", most.Load(), through.Load(), admitted)
		}
	})
}

// TestAdmissionDoesNotWaitForTheSlow: a thousand that take three seconds each, as
// long as a broker makes an empty group wait, are through in eight.
func TestAdmissionDoesNotWaitForTheSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission()
		var through atomic.Int32
		for range 1000 {
			go func() {
				leave, err := a.enter(t.Context())
				if err != nil {
					return
				}
				time.Sleep(3 * time.Second)
				through.Add(1)
				leave()
			}()
		}
		time.Sleep(8 * time.Second)
		synctest.Wait()
		if through.Load() != 1000 {
			t.Errorf("%d are through", through.Load())
		}
	})
}

func TestAdmissionEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission()
		for range admitted {
			if _, err := a.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := a.enter(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("enter returned %v", err)
		}
		time.Sleep(admittedFor) // the timers of the others
	})
}

// TestDeadClusterTakesNoTurn: consumers of a cluster that is away wait outside,
// and one of another cluster joins at once.
func TestDeadClusterTakesNoTurn(t *testing.T) {
	r := newRig(t, 1)
	text := "consumers:\n"
	for i := range 2 * admitted {
		text += fmt.Sprintf("  - {name: dead%d, brokers: [\"127.0.0.1:1\"], topics: [t], sink: {stdout: {}}}\n", i)
	}
	text += fmt.Sprintf("  - {name: c, brokers: [%q], topics: [t], sink: {stdout: {}}}\n", r.cluster.ListenAddrs()[0])
	c, problems := config.Parse("consumers.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r.updates <- config.Update{Config: c}
	r.wantStatus(Running)
	r.eventually("errors of all others", func() (bool, any) {
		n := r.agent.Status().Summary[Failing]
		return n == 2*admitted, n
	})
	for range 50 {
		r.agent.clusters.mu.Lock()
		for _, c := range r.agent.clusters.inUse {
			if n := len(c.admission); n > 0 && c.reach.Brokers[0] == "127.0.0.1:1" {
				t.Errorf("%d turns are taken to join a dead cluster", n)
			}
		}
		r.agent.clusters.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}
