package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestSoak creates, pauses, resumes, replaces and terminates consumers in a
// loop, under load, and demands that goroutines and descriptors are afterwards
// what they were, and memory, too, if it runs for long. KCAGENT_SOAK says how
// long; make soak runs it for twenty minutes.
func TestSoak(t *testing.T) {
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
	topic := s.topic(t, "soak", 4)
	var home []entry
	for i := range steady {
		home = append(home, s.entry(fmt.Sprint("steady", i), topic))
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.file(home...), Args: []string{"--log-level", "warn"}})
	made := 0
	var samples []agenttest.Resources
	for began := time.Now(); time.Since(began) < soak; {
		visit := append([]entry{}, home...)
		for i := range guests {
			visit = append(visit, s.entry(fmt.Sprint("guest", i), topic).withFormat([]string{"raw", "json"}[i%2]))
		}
		a.Apply(s.file(visit...))
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 4, First: made, Count: 500})
		made += 500
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
		a.Apply(s.file(visit...))
		a.Apply(s.file(home...))
		a.WaitStatus("the guests to be gone", func(st agenttest.Status) bool {
			return len(st.Consumers) == steady && st.Summary["RUNNING"] == steady
		})
		for _, e := range home {
			s.waitCommitted(t, a, e, int64(4*made))
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
		follow(t, e.path).wantExact(t, topic, 4, made)
	}
}

// settled waits until what has just ended has let go of everything, which takes
// sarama a moment, and reads the resources.
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
