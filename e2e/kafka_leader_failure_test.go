package e2e

import (
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestLeaderFailureLosesNoRecord kills brokers that lead partitions, one after the other,
// while records arrive, and restarts them.
func TestLeaderFailureLosesNoRecord(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Start(t, kafkatest.Options{Brokers: 3, Properties: map[string]string{
		"offsets.topic.replication.factor": "3", "min.insync.replicas": "2",
		"replica.lag.time.max.ms": "3000",
	}})
	s := newSceneOn(t, cluster)
	const partitions, chunk = 6, 2000
	topic := "replicated-" + s.suffix
	s.CreateReplicated(t, topic, partitions)
	e, json := s.entry("raw", topic), s.entry("json", topic).withFormat("json")
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e, json)})
	f := s.newFeed(topic, partitions)
	arrive := func(when string) {
		t.Helper()
		a.WaitStatus("everything to arrive "+when, func(st agenttest.Status) bool {
			for _, c := range st.Consumers {
				if c.Status != "RUNNING" || !c.HasLag(0) || c.Committed() < f.total() {
					return false
				}
			}
			return len(st.Consumers) == 2
		})
	}
	f.produce(t, chunk)
	arrive("before a failure")
	for _, b := range cluster.Brokers[1:] { // the first is the controller as well
		producing := make(chan struct{})
		go func() {
			defer close(producing)
			<-time.After(100 * time.Millisecond)
			b.Kill()
		}()
		f.produce(t, chunk)
		<-producing
		f.produce(t, chunk)
		arrive("without one broker")
		cluster.Restart(t)
		f.produce(t, chunk)
		arrive("with the broker back")
	}
	for _, e := range []entry{e, json} {
		repeats := readTrail(t, e.path).wantAllWithRepeats(t, topic, partitions, f.produced)
		t.Logf("%s: %d repeats in %d records", e.name, repeats, f.total())
	}
}
