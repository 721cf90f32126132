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

// TestEditAmongThousandConsumersTouchesNoOther pauses one of a thousand consumers and
// replaces another. The test runs alone, because it measures.
func TestEditAmongThousandConsumersTouchesNoOther(t *testing.T) {
	const count, topics = 1000, 4
	s := newScene(t)
	var names []string
	for i := range topics {
		names = append(names, s.newTopic(t, fmt.Sprintf("many-%d", i), 1))
	}
	entries := make([]entry, count)
	for i := range entries {
		entries[i] = s.entry(fmt.Sprintf("many-%04d", i), names[i%topics])
	}
	agenttest.Binary(t) // do not measure the build
	began := time.Now()
	a := agenttest.Start(t, agenttest.Options{Config: s.config(entries...)})
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
	a.Apply(s.config(entries...))
	a.WaitState(entries[paused].name, "PAUSED")
	entries[replaced] = entries[replaced].withGroup("replaced-" + s.suffix)
	a.Apply(s.config(entries...))
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
				t.Errorf("%s was not replaced", is.Name)
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
