package e2e

import (
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestLeaderFailureLosesNoRecord kills brokers that lead partitions, one after the other, while
// records flow, and brings them back.
func TestLeaderFailureLosesNoRecord(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	cluster := kafkatest.Start(t, kafkatest.Options{Brokers: 3, Properties: map[string]string{
		"offsets.topic.replication.factor": "3", "min.insync.replicas": "2",
		"replica.lag.time.max.ms": "3000",
	}})
	s = &scene{Cluster: cluster, dir: s.dir, suffix: s.suffix}
	const partitions, chunk = 6, 2000
	topic := "replicated-" + s.suffix
	s.CreateReplicated(t, topic, partitions)
	e, json := s.entry("raw", topic), s.entry("json", topic).withFormat("json")
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e, json)})
	made := 0
	produce := func() {
		t.Helper()
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: made, Count: chunk})
		made += chunk
	}
	arrive := func(when string) {
		t.Helper()
		a.WaitStatus("everything to arrive "+when, func(st agenttest.Status) bool {
			for _, c := range st.Consumers {
				if c.Status != "RUNNING" || c.Lag != 0 || c.Committed() < int64(partitions*made) {
					return false
				}
			}
			return len(st.Consumers) == 2
		})
	}
	produce()
	arrive("before anything dies")
	for _, b := range cluster.Brokers[1:] { // the first is the controller, too
		flowing := make(chan struct{})
		go func() {
			defer close(flowing)
			<-time.After(100 * time.Millisecond)
			b.Kill()
		}()
		produce()
		<-flowing
		produce()
		arrive("without one broker")
		cluster.Restart(t)
		produce()
		arrive("with the broker back")
	}
	for _, e := range []entry{e, json} {
		repeats := readTrail(t, e.path).wantAllWithRepeats(t, topic, partitions, made)
		t.Logf("%s: %d repeats in %d records", e.name, repeats, partitions*made)
	}
}
