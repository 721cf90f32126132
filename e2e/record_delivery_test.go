package e2e

import (
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestEveryRecordArrivesOnceAndInOrder reads two topics, one as JSON and one raw, half of
// which is produced before the start. Status, metrics and committed offsets agree with the
// files.
func TestEveryRecordArrivesOnceAndInOrder(t *testing.T) {
	t.Parallel()
	const partitions, each = 4, 50_000
	s := newScene(t)
	one, two := s.newTopic(t, "one", partitions), s.newTopic(t, "two", partitions)
	asJSON, asRaw := s.entry("as-json", one).withFormat("json"), s.entry("as-raw", two)
	for _, topic := range []string{one, two} { // one half before the start, one after it
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, Count: each / 2})
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(asJSON, asRaw)})
	for _, topic := range []string{one, two} {
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: each / 2, Count: each / 2})
	}
	for _, e := range []entry{asJSON, asRaw} {
		s.waitCommitted(t, a, e, partitions*each)
		readTrail(t, e.path).wantExact(t, e.topics[0], partitions, each)
		for p, end := range s.EndOffsets(t, e.topics[0]) {
			if got := s.Committed(t, e.group, e.topics[0])[p]; got != end {
				t.Errorf("%s/%d: committed %d, the log ends at %d", e.topics[0], p, got, end)
			}
		}
		c := a.Consumer(e.name)
		if c.RecordsTotal != partitions*each || c.LastRecordAt == nil || c.LastFlushAt == nil {
			t.Errorf("%s counts %d records, last at %v, flushed at %v, want %d", c.Name, c.RecordsTotal, c.LastRecordAt, c.LastFlushAt, partitions*each)
		}
		if n, _ := a.Metrics().Value("kcagent_consumer_records_total", "consumer="+e.name); n != partitions*each {
			t.Errorf("the metrics count %v records of %s, want %d", n, e.name, partitions*each)
		}
	}
}

// TestKillLosesNoRecord kills the agent again and again while records arrive. No committed
// offset is ever beyond what the file holds.
func TestKillLosesNoRecord(t *testing.T) {
	t.Parallel()
	const partitions, each, kills = 2, 20_000, 6
	s := newScene(t)
	topic := s.newTopic(t, "killed", partitions)
	e := s.entry("killed", topic)
	uncommitted := 0 // partitions with records that a kill left uncommitted
	for i := range kills {
		// The file is a little and far ahead of the committed offset, by turns.
		e = e.withFlush([]string{"{interval: 10ms}", "{interval: 500ms}"}[i%2])
		a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
		a.WaitState(e.name, "RUNNING")
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: i * each, Count: each})
		a.Kill() // while the last records arrive
		committed, tr := s.Committed(t, e.group, topic), readTrail(t, e.path)
		for p := range int32(partitions) {
			if n := int64(tr.next(key(topic, p))); committed[p] > n {
				t.Fatalf("kill %d: committed %d of partition %d, and the file ends before record %d", i, committed[p], p, n)
			}
			if committed[p] < int64((i+1)*each) {
				uncommitted++
			}
		}
		s.Evict(t, e.group) // instead of waiting for the end of the session
	}
	if uncommitted == 0 {
		t.Error("every kill came after all commits")
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, partitions*each*kills)
	repeats := readTrail(t, e.path).wantAllWithRepeats(t, topic, partitions, each*kills)
	t.Logf("%d kills left %d partitions with uncommitted records; %d records were repeated", kills, uncommitted, repeats)
}
