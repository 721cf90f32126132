package agent

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestZombieDelaysOnlyTheUserOfItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		defer stop()
		s.slow["stuck"] = time.Minute
		s.edit("  - {name: stuck}\n  - {name: b}")
		s.edit("  - {name: b}\n  - {name: c}\n  - {name: heir, sink: {file: {path: /data/stuck.log}}}")
		s.wantStates("b=RUNNING c=RUNNING heir=STARTING stuck=STOPPING")
		time.Sleep(21 * time.Second)
		s.wantStates("b=RUNNING c=RUNNING heir=STARTING")
		snap := s.agent.snapshot.Load()
		if len(snap.Zombies) != 1 || snap.Zombies[0].Name != "stuck" {
			t.Fatalf("zombies are %+v", snap.Zombies)
		}
		if e := s.agent.Status().Terminated; len(e) != 1 || e[0].Clean {
			t.Errorf("terminated is %+v, want one unclean end", e)
		}
		if s.isAlive("heir") {
			t.Error("heir writes to a file that the zombie still holds")
		}
		if e := s.agent.Status().Consumers[2].LastError; e == nil || !strings.Contains(*e, "zombie stuck") {
			t.Errorf("heir does not report what it waits for: %v", e)
		}
		s.edit("  - {name: b, group: other}\n  - {name: heir, sink: {file: {path: /data/stuck.log}}}")
		s.wantStates("b=RUNNING heir=STARTING")
		time.Sleep(40 * time.Second)
		s.wantStates("b=RUNNING heir=RUNNING")
		if z := s.agent.snapshot.Load().Zombies; len(z) != 0 {
			t.Errorf("the zombie ended and is still listed: %+v", z)
		}
	})
}

func TestShutdownStopsAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{})
		for _, n := range []string{"a", "b", "c"} {
			s.slow[n] = 9 * time.Second
		}
		s.edit("  - {name: a}\n  - {name: b}\n  - {name: c, state: stopped}")
		began := time.Now()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d != 9*time.Second {
			t.Errorf("shutting down took %s, want as long as the slowest: 9s", d)
		}
	})
}

func TestShutdownNamesConsumersThatDidNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := startLoop(t, Options{ShutdownTimeout: 5 * time.Second})
		s.slow["stuck"] = time.Minute
		s.edit("  - {name: stuck}\n  - {name: b}")
		began := time.Now()
		err := stop()
		if err == nil || !strings.Contains(err.Error(), "stuck: did not stop in time") || strings.Contains(err.Error(), "b:") {
			t.Errorf("Run returned %v", err)
		}
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("shutting down took %s, want 5s", d)
		}
		time.Sleep(time.Minute) // the stuck one ends, so that the bubble can
	})
}
