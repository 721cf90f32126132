package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// TestCreateAndRemoveCyclesLeakNothing creates and removes a consumer again and again, and
// requires that all goroutines have a consumer meanwhile and that goroutines and
// descriptors are as before.
func TestCreateAndRemoveCyclesLeakNothing(t *testing.T) {
	t.Parallel()
	const cycles, parts = 20, 4
	s := newScene(t)
	topic := s.newTopic(t, "cycles", parts)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: parts, Count: 100})
	neighbour, subject := s.entry("neighbour", topic), s.entry("subject", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(neighbour)})
	s.waitCommitted(t, a, neighbour, parts*100)
	was := identify(t, a.Consumer("neighbour"))
	before := a.Status().Resources
	for i := range cycles {
		a.Apply(s.config(neighbour, subject))
		a.WaitState("subject", "RUNNING")
		th := a.Threads()
		for _, g := range th.Threads {
			if !g.Recognized || g.Function == "" || g.Count < 1 {
				t.Fatalf("cycle %d: goroutines without a consumer: %+v", i, g)
			}
		}
		if th.Consumers["subject"] < parts || th.Consumers["neighbour"] < parts {
			t.Errorf("cycle %d: goroutines by consumer are %v, want at least one per partition", i, th.Consumers)
		}
		a.Apply(s.config(neighbour))
		a.WaitStatus("the subject to end", func(st agenttest.Status) bool { return len(st.Consumers) == 1 })
	}
	wait.For(t, wait.Timeout, "goroutines and descriptors to be as before", func() error {
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
	readTrail(t, subject.path).wantExact(t, topic, parts, 100)
}

// TestSoakLeaksNothing creates, pauses, resumes, replaces and terminates consumers in a
// loop, while records arrive. It requires that goroutines and descriptors return to their
// numbers, and memory as well if it runs for ten minutes. KCAGENT_SOAK sets the duration;
// make soak runs it for twenty minutes.
func TestSoakLeaksNothing(t *testing.T) {
	t.Parallel()
	soak := 12 * time.Second
	if text := os.Getenv("KCAGENT_SOAK"); text != "" {
		var err error
		if soak, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	s := newScene(t)
	const steady, guests = 5, 25
	topic := s.newTopic(t, "soak", 4)
	var home []entry
	for i := range steady {
		home = append(home, s.entry(fmt.Sprint("steady", i), topic))
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(home...), Args: []string{"--log-level", "warn"}})
	f := s.newFeed(topic, 4)
	var samples []agenttest.Resources
	for began := time.Now(); time.Since(began) < soak; {
		visit := append([]entry{}, home...)
		for i := range guests {
			visit = append(visit, s.entry(fmt.Sprint("guest", i), topic).withFormat([]string{"raw", "json"}[i%2]))
		}
		a.Apply(s.config(visit...))
		f.produce(t, 500)
		for i := range visit {
			switch i % 3 {
			case 0:
				visit[i] = visit[i].withState("paused")
			case 1:
				visit[i] = visit[i].withFlush("{interval: 50ms}")
			}
		}
		for i := steady; i < len(visit); i += 5 {
			visit[i] = visit[i].withGroup(visit[i].group + "-new")
		}
		a.Apply(s.config(visit...))
		a.Apply(s.config(home...))
		a.WaitStatus("the guests to end", func(st agenttest.Status) bool {
			return len(st.Consumers) == steady && st.Summary["RUNNING"] == steady
		})
		for _, e := range home {
			s.waitCommitted(t, a, e, f.total())
		}
		samples = append(samples, settled(a))
	}
	first, last := samples[len(samples)/3], samples[len(samples)-1]
	t.Logf("%d rounds; after a third %+v, at the end %+v", len(samples), first, last)
	if last.Goroutines > first.Goroutines+5 || last.OpenFDs > first.OpenFDs+5 {
		t.Errorf("goroutines went from %d to %d, descriptors from %d to %d", first.Goroutines, last.Goroutines, first.OpenFDs, last.OpenFDs)
	}
	if grown := last.RSSBytes - first.RSSBytes; soak >= 10*time.Minute && grown > max(8<<20, first.RSSBytes/10) {
		t.Errorf("memory went from %d to %d MiB", first.RSSBytes>>20, last.RSSBytes>>20)
	}
	if z := a.Threads().Zombies; len(z) > 0 {
		t.Errorf("zombies: %+v", z)
	}
	for _, e := range home {
		readTrail(t, e.path).wantExact(t, topic, 4, f.produced)
	}
}

// settled returns the resources once consumers that just ended have released theirs, which
// takes sarama a moment.
func settled(a *agenttest.Agent) agenttest.Resources {
	least := a.Status().Resources
	for range 20 {
		<-time.After(20 * time.Millisecond)
		if r := a.Status().Resources; r.Goroutines < least.Goroutines {
			least = r
		}
	}
	return least
}
