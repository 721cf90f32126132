package agent

import (
	"context"
	"runtime/pprof"
	"testing"
	"time"

	"kcagent/config"
)

// A goroutine that outlives its consumer, although the end looked clean, must
// show as a zombie's: nothing else would ever tell of the leak.
func TestLeakAfterACleanEndIsAZombie(t *testing.T) {
	s, stop := play(t, Options{})
	defer func() { _ = stop() }()
	leak := make(chan struct{})
	s.agent.newRunner = func(spec config.Consumer) runner {
		f := newFakeRunner(spec)
		f.run = func(ctx context.Context) {
			pprof.Do(ctx, pprof.Labels(labelConsumer, spec.Name, labelID, f.Snapshot().ID), func(ctx context.Context) {
				go func() { <-leak }()
				s.run(ctx, f)
			})
		}
		return f
	}
	edit := func(text string, done func(Status) bool) {
		t.Helper()
		s.updates <- updateOf(t, text)
		for deadline := time.Now().Add(10 * time.Second); !done(s.agent.Status()); <-time.After(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the edit was not applied: %+v", s.agent.Status())
			}
		}
	}
	edit("  - {name: leaky}", func(st Status) bool { return st.Summary[Running] == 1 })
	if n, z, _ := leaky(t, s.agent); n != 2 || z != nil {
		t.Errorf("while it runs: %d goroutines, zombie %+v", n, z)
	}
	edit("  []", func(st Status) bool { return len(st.Terminated) == 1 })
	var z *Zombie
	unrecognized := 0
	for deadline := time.Now().Add(10 * time.Second); z == nil && time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		_, z, unrecognized = leaky(t, s.agent)
	}
	if z == nil || z.Goroutines != 1 || z.Since.IsZero() || len(z.Functions) != 1 {
		t.Errorf("after its end: zombie %+v", z)
	}
	if unrecognized != 1 {
		t.Errorf("%d goroutines are not recognized, want the leaked one", unrecognized)
	}
	close(leak)
}

// leaky picks what is said of one consumer; others of the same test process may
// still be on their way out.
func leaky(t *testing.T, a *Agent) (count int, zombie *Zombie, unrecognized int) {
	t.Helper()
	th := threads(t, a)
	for _, z := range th.Zombies {
		if z.Consumer == "leaky" {
			zombie = &z
		}
	}
	for _, g := range th.Threads {
		if g.Consumer != nil && *g.Consumer == "leaky" && !g.Recognized {
			unrecognized += g.Count
		}
	}
	return th.Consumers["leaky"], zombie, unrecognized
}

func threads(t *testing.T, a *Agent) Threads {
	t.Helper()
	th, err := a.api.Threads()
	if err != nil {
		t.Fatal(err)
	}
	return th
}
