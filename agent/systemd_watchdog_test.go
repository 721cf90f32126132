package agent

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/cli/systemd"
	"kcagent/config"
)

// A hangingRunner blocks the loop in Sample once it hangs.
type hangingRunner struct {
	*fakeRunner
	hangs *atomic.Bool
	free  chan struct{}
}

func (r hangingRunner) Sample(time.Time) {
	if r.hangs.Load() {
		<-r.free
	}
}

// TestHangingLoopStopsThePings of systemd's watchdog, and a loop that responds again resumes
// them.
func TestHangingLoopStopsThePings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		var hangs atomic.Bool
		free := make(chan struct{})
		s.agent.newRunner = func(c *config.Consumer) runner { return hangingRunner{newFakeRunner(c), &hangs, free} }
		var pings atomic.Int64
		notifier := systemd.New(func(message string) error {
			if message == "WATCHDOG=1" {
				pings.Add(1)
			}
			return nil
		}, time.Minute)
		ended, end := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			notifier.Run(t.Context(), ended, systemd.Options{Agent: s.agent, Log: slog.New(slog.DiscardHandler)})
			close(done)
		}()
		want := func(n int64, d time.Duration) {
			t.Helper()
			pings.Store(0)
			time.Sleep(d)
			synctest.Wait()
			if got := pings.Load(); got != n {
				t.Errorf("%d pings in %s, want %d", got, d, n)
			}
		}
		s.edit("- {name: a}")
		want(40, 10*time.Minute)
		hangs.Store(true)
		time.Sleep(sampleInterval)
		want(0, time.Hour)
		hangs.Store(false)
		close(free)
		time.Sleep(time.Minute)
		want(40, 10*time.Minute)
		if err := stop(); err != nil {
			t.Error(err)
		}
		began := time.Now()
		end()
		<-done
		if d := time.Since(began); d != 0 {
			t.Errorf("the notifier ended %s after the agent", d)
		}
	})
}

// TestShortHangKeepsThePingsInTime: systemd does not kill an agent whose loop hangs for less than
// three quarters of the watchdog's interval, whenever the loop begins to hang.
func TestShortHangKeepsThePingsInTime(t *testing.T) {
	for offset := time.Duration(0); offset < time.Minute; offset += sampleInterval {
		synctest.Test(t, func(t *testing.T) {
			s, stop := startLoop(t, Options{})
			var hangs atomic.Bool
			free := make(chan struct{})
			s.agent.newRunner = func(c *config.Consumer) runner { return hangingRunner{newFakeRunner(c), &hangs, free} }
			last, gap := time.Now(), time.Duration(0)
			notifier := systemd.New(func(message string) error {
				if strings.Contains(message, "WATCHDOG=1") {
					last, gap = time.Now(), max(gap, time.Since(last))
				}
				return nil
			}, time.Minute)
			ended, end := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() {
				notifier.Run(t.Context(), ended, systemd.Options{Agent: s.agent, Log: slog.New(slog.DiscardHandler)})
			})
			s.edit("- {name: a}")
			time.Sleep(time.Minute + offset + time.Second) // between two samples
			hangs.Store(true)
			time.Sleep(44 * time.Second)
			hangs.Store(false)
			close(free)
			time.Sleep(time.Minute)
			if err := stop(); err != nil {
				t.Error(err)
			}
			end()
			running.Wait()
			if gap >= time.Minute || gap < 43*time.Second {
				t.Errorf("a hang after %s: the longest time between two pings is %s", offset, gap)
			}
		})
	}
}

// TestAliveEndsWithTheLoop: nothing waits for an agent that has ended.
func TestAliveEndsWithTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		if !s.agent.Alive(time.Minute) {
			t.Error("not alive")
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		began := time.Now()
		if s.agent.Alive(time.Minute) || time.Since(began) != 0 {
			t.Errorf("alive, or it waited %s", time.Since(began))
		}
	})
}
