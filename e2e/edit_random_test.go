package e2e

import (
	"math/rand/v2"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestRandomEditsLeaveEachRecordOnce pauses, stops, updates, resubscribes, replaces and
// terminates three consumers at random while records arrive, without waiting for an edit
// to take effect before the next. Each of these changes ends with a flush and a commit, so
// every file holds each record once.
func TestRandomEditsLeaveEachRecordOnce(t *testing.T) {
	t.Parallel()
	const parts, edits, count = 3, 40, 250
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(words ...string) string { return words[random.IntN(len(words))] }

	s := newScene(t)
	topic, extra := s.newTopic(t, "storm", parts), s.newTopic(t, "extra", 1)
	all := []entry{s.entry("one", topic), s.entry("two", topic), s.entry("three", topic).withFormat("json")}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(all...)})
	for i := range edits {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: parts, First: i * count, Count: count})
		var present []entry
		for _, e := range all {
			if random.IntN(6) == 0 {
				continue // terminated; one of the next edits creates it again
			}
			e = e.withState(pick("running", "running", "paused", "stopped")).
				withFlush(pick("{interval: 20ms}", "{interval: 1h}", "{interval: 1s, bytes: 8KiB}")).
				with("isolation: " + pick("read_committed", "read_committed", "read_uncommitted"))
			if random.IntN(3) == 0 {
				e = e.withTopics(topic, extra)
			}
			present = append(present, e)
		}
		if random.IntN(3) == 0 {
			a.Write(s.config(present...))
		} else {
			a.Apply(s.config(present...))
		}
	}
	a.Apply(s.config(all...))
	for _, e := range all {
		s.waitCommitted(t, a, e, parts*edits*count)
		readTrail(t, e.path).wantExact(t, topic, parts, edits*count)
	}
	if th := a.Threads(); len(th.Zombies) > 0 {
		t.Errorf("zombies: %+v", th.Zombies)
	}
}
