package e2e

import (
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestOldestKafkaVersionIsSupported reads, pauses, resumes, restarts and resets on Kafka
// 3.9. With KCAGENT_KAFKA_VERSION=3.9.1, all tests run on it.
func TestOldestKafkaVersionIsSupported(t *testing.T) {
	t.Parallel()
	const partitions, each = 3, 3000
	s := newSceneOn(t, kafkatest.Start(t, kafkatest.Options{Version: kafkatest.Old}))
	topic := s.newTopic(t, "old", partitions)
	raw, json := s.entry("raw", topic), s.entry("json", topic).withFormat("json")
	static, later := s.entry("static", topic).static("host-1"), s.entry("later").with("topics_regex: '^later-.*$'").with("start: latest")
	entries := []entry{raw, json, static}
	f := s.newFeed(topic, partitions)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(append(entries, later)...)})
	a.WaitState("later", "ERROR") // nothing matches
	f.produce(t, each)
	waitLines(t, raw.path, each)
	f.produce(t, each)
	a.Kill()
	for _, e := range []entry{raw, json} {
		s.Evict(t, e.group) // instead of waiting for the end of the session
	}
	f.produce(t, each)
	a = agenttest.Start(t, agenttest.Options{Path: a.Path})
	arrive := func() {
		t.Helper()
		for _, e := range entries {
			s.waitCommitted(t, a, e, f.total())
			readTrail(t, e.path).wantExact(t, topic, partitions, f.produced)
		}
	}
	arrive()
	appears := s.newTopic(t, "later", 2)
	s.Produce(t, kafkatest.Load{Topic: appears, Partitions: 2, Count: 100})

	a.Apply(s.config(raw.withState("paused"), json, static, later))
	a.WaitState("raw", "PAUSED")
	f.produce(t, each)
	s.waitCommitted(t, a, json, f.total())
	a.Apply(s.config(raw, json, static, later))
	arrive()
	s.waitCommitted(t, a, later.withTopics(appears), 200)
	readTrail(t, later.path).wantExact(t, appears, 2, 100)

	a.Apply(s.config(raw.withState("stopped"), json, static, later))
	a.WaitState("raw", "CREATED")
	s.ResetOffsets(t, raw.group, topic, map[int32]int64{1: 100})
	a.Apply(s.config(raw, json, static, later))
	s.waitCommitted(t, a, raw, f.total())
	readTrail(t, raw.path).wantSeqs(t, key(topic, 1), upTo(f.produced), seqRange(100, f.produced))
	stopAgent(t, a)
}
