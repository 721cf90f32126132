package kafka

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAdmissionLimitsConcurrentJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission()
		var inside, most, through atomic.Int32
		for range 1000 {
			go func() {
				leave, err := a.Enter(t.Context())
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
		if most.Load() != MaxFirstJoins || through.Load() != 1000 {
			t.Errorf("%d at a time, %d in all; want %d and 1000", most.Load(), through.Load(), MaxFirstJoins)
		}
	})
}

// TestAdmissionDoesNotWaitForSlowJoins: a thousand joins that take three seconds each, as
// long as a broker delays the first assignment of an empty group, are over in eight.
func TestAdmissionDoesNotWaitForSlowJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission()
		var through atomic.Int32
		for range 1000 {
			go func() {
				leave, err := a.Enter(t.Context())
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
			t.Errorf("%d joins are over", through.Load())
		}
	})
}

func TestAdmissionEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission()
		for range MaxFirstJoins {
			if _, err := a.Enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := a.Enter(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("enter returned %v", err)
		}
		time.Sleep(admittedFor) // the timers of the others
	})
}
