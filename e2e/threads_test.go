package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

func TestZombie(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	a, e, reader := stuck(t, s)
	free := s.entry("free", e.topics...)
	was := identify(t, a.Consumer("free"))

	a.Write(s.file(free)) // terminates the one that cannot end
	wait.For(t, wait.Timeout, "the zombie to be shown", func() error {
		th := a.Threads()
		if len(th.Zombies) != 1 {
			return fmt.Errorf("zombies are %+v", th.Zombies)
		}
		if z := th.Zombies[0]; z.Consumer != "stuck" || z.Goroutines < 1 || len(z.Functions) == 0 || z.Since.IsZero() {
			t.Fatalf("the zombie is shown as %+v", z)
		}
		return nil
	})
	waitZombieMetric(t, a, func(n float64) bool { return n >= 1 })
	if ended, ok := a.Status().Ended("stuck"); !ok || ended.Clean {
		t.Errorf("among the ended: %+v (%v), want an unclean end", ended, ok)
	}
	// It holds up nobody: records flow and edits work.
	s.Produce(t, kafkatest.Load{Topic: e.topics[0], Partitions: 1, First: 20_000, Count: 100})
	s.waitCommitted(t, a, free, 20_100)
	wantSame(t, a, "free", was)
	newcomer := s.entry("newcomer", e.topics...)
	a.Apply(s.file(free, newcomer))
	s.waitCommitted(t, a, newcomer, 20_100)

	drained := make(chan error, 1)
	go func() { drained <- drain(reader) }()
	wait.For(t, wait.Timeout, "the zombie to end", func() error {
		if z := a.Threads().Zombies; len(z) > 0 {
			return fmt.Errorf("zombies are %+v", z)
		}
		return nil
	})
	waitZombieMetric(t, a, func(n float64) bool { return n == 0 })
	a.Kill()
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// waitZombieMetric waits for a metric that may be some seconds old: it is dear.
func waitZombieMetric(t *testing.T, a *agenttest.Agent, ok func(float64) bool) {
	t.Helper()
	wait.For(t, wait.Timeout, "the metric of zombies", func() error {
		n, is := a.Metrics().Value("kcagent_zombie_goroutines")
		if !is || !ok(n) {
			return fmt.Errorf("it is %v (%v)", n, is)
		}
		return nil
	})
}

func TestCyclesLeaveNothing(t *testing.T) {
	t.Parallel()
	const cycles, parts = 20, 4
	s := newScene(t)
	topic := s.topic(t, "cycles", parts)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: parts, Count: 100})
	neighbour, subject := s.entry("neighbour", topic), s.entry("subject", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.file(neighbour)})
	s.waitCommitted(t, a, neighbour, parts*100)
	was := identify(t, a.Consumer("neighbour"))
	before := a.Status().Resources
	for i := range cycles {
		a.Apply(s.file(neighbour, subject))
		a.WaitState("subject", "RUNNING")
		th := a.Threads()
		for _, g := range th.Threads {
			if !g.Recognized || g.Function == "" || g.Count < 1 {
				t.Fatalf("cycle %d: goroutines of nobody: %+v", i, g)
			}
		}
		if th.Consumers["subject"] < parts || th.Consumers["neighbour"] < parts {
			t.Errorf("cycle %d: goroutines by consumer are %v, want one a partition at least", i, th.Consumers)
		}
		a.Apply(s.file(neighbour))
		a.WaitStatus("the subject to be gone", func(st agenttest.Status) bool { return len(st.Consumers) == 1 })
	}
	wait.For(t, wait.Timeout, "goroutines and descriptors to be back", func() error {
		now := a.Status().Resources
		if now.Goroutines > before.Goroutines+4 || now.OpenFDs > before.OpenFDs+4 {
			return fmt.Errorf("%d goroutines and %d descriptors, were %d and %d", now.Goroutines, now.OpenFDs, before.Goroutines, before.OpenFDs)
		}
		return nil
	})
	th := a.Threads()
	if len(th.Zombies) > 0 || th.Consumers["subject"] != 0 {
		t.Errorf("zombies %+v, goroutines by consumer %v", th.Zombies, th.Consumers)
	}
	ended := 0
	for _, e := range a.Status().Terminated {
		if e.Name == "subject" && e.Clean {
			ended++
		}
	}
	if ended != cycles {
		t.Errorf("%d clean ends, want %d", ended, cycles)
	}
	wantSame(t, a, "neighbour", was)
	follow(t, subject.path).wantExact(t, topic, parts, 100)
}

func TestThousandConsumers(t *testing.T) {
	const count, topics = 1000, 4
	s := newScene(t)
	var names []string
	for i := range topics {
		names = append(names, s.topic(t, fmt.Sprintf("many-%d", i), 1))
	}
	entries := make([]entry, count)
	for i := range entries {
		entries[i] = s.entry(fmt.Sprintf("many-%04d", i), names[i%topics])
	}
	agenttest.Binary(t) // building it is no part of a start
	began := time.Now()
	a := agenttest.Start(t, agenttest.Options{Config: s.file(entries...)})
	wait.For(t, 3*wait.Timeout, "the agent to be ready", func() error {
		if code, body := a.Get("/readyz"); code != http.StatusOK {
			return fmt.Errorf("/readyz answers %d: %s; summary %v", code, body, a.Status().Summary)
		}
		return nil
	})
	before := a.WaitStatus("all to run", func(st agenttest.Status) bool { return st.Summary["RUNNING"] == count })
	t.Logf("%d consumers: all run after %s, %d goroutines, %d MiB, %.1f CPU-s", count, time.Since(began).Round(100*time.Millisecond), before.Resources.Goroutines, before.Resources.RSSBytes>>20, before.Resources.CPUSeconds)

	const paused, replaced = 123, 456
	entries[paused] = entries[paused].withState("paused")
	a.Apply(s.file(entries...))
	a.WaitState(entries[paused].name, "PAUSED")
	entries[replaced] = entries[replaced].withGroup("replaced-" + s.suffix)
	a.Apply(s.file(entries...))
	a.WaitState(entries[replaced].name, "RUNNING")

	after := a.Status()
	if len(after.Consumers) != count {
		t.Fatalf("%d consumers, want %d", len(after.Consumers), count)
	}
	for i, was := range before.Consumers {
		is := after.Consumers[i]
		switch {
		case i == replaced:
			if is.ID == was.ID {
				t.Errorf("%s was to be replaced and has its old id", is.Name)
			}
		case i == paused && is.Status != "PAUSED", i != paused && is.Status != "RUNNING":
			t.Errorf("%s is %s", is.Name, is.Status)
		case identify(t, is) != identify(t, was):
			t.Errorf("%s was touched: it was %+v and is %+v", is.Name, identify(t, was), identify(t, is))
		}
	}
	s.Produce(t, kafkatest.Load{Topic: names[0], Partitions: 1, Count: 1})
	s.waitCommitted(t, a, entries[0], 1)
}
