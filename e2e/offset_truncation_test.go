package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestUncleanLeaderElectionRereadsDivergedRecords: a replica without the last 100 consumed
// records becomes the leader and gets other records at the same offsets. A consumer reads
// all of the new ones, whether its agent was up or down. With on_offset_out_of_range: fail
// it stops, and its error names the diverging offset.
func TestUncleanLeaderElectionRereadsDivergedRecords(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Start(t, kafkatest.Options{Brokers: 3, Properties: map[string]string{
		"offsets.topic.replication.factor": "3", "replica.lag.time.max.ms": "3000",
	}})
	s := newSceneOn(t, cluster)
	first, second := cluster.Brokers[1], cluster.Brokers[2] // broker 1 is the controller
	topic := "unclean-" + s.suffix
	s.CreateOn(t, topic, first, second)
	fill := func(branch string, from, count int) {
		t.Helper()
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: from, Count: count, Value: func(_ string, p int32, seq int) []byte {
			return kafkatest.Value(branch, p, seq)
		}})
	}
	up, strict, down := s.entry("up", topic), s.entry("strict", topic).with("on_offset_out_of_range: fail"), s.entry("down", topic).with("on_offset_out_of_range: latest")
	// A consumer with the requests of Kafka 2.6 has to request the end offsets of epochs itself.
	old := s.entry("old", topic).withFormat("json")
	old.cluster = "older"
	file := func(entries ...entry) string {
		older := fmt.Sprintf("clusters:\n  older: {brokers: [%s], kafka_version: 2.6.0}\n", strings.Join(s.Addrs(), ", "))
		return strings.Replace(s.config(append(entries, old)...), "clusters:\n", older, 1)
	}
	a := agenttest.Start(t, agenttest.Options{Config: file(up, strict)})
	b := agenttest.Start(t, agenttest.Options{Config: s.config(down)})
	arrive := func(n int64) {
		t.Helper()
		s.waitCommitted(t, a, up, n)
		s.waitCommitted(t, a, strict, n)
		s.waitCommitted(t, a, old, n)
		s.waitCommitted(t, b, down, n)
	}
	fill("before", 0, 200)
	arrive(200)
	s.WaitISR(t, topic, 2)
	second.Stop()
	s.WaitISR(t, topic, 1)
	fill("lost", 200, 100)
	arrive(300)
	stopAgent(t, b)
	first.Stop()
	s.StartBroker(t, second)
	s.ElectUnclean(t, topic, second)
	fill("after", 200, 250)

	b = agenttest.Start(t, agenttest.Options{Config: s.config(down)})
	for _, c := range []struct {
		a *agenttest.Agent
		e entry
	}{{a, up}, {b, down}, {a, old}} {
		s.waitCommitted(t, c.a, c.e, 450)
		if c.e.format == "raw" {
			tr := readTrail(t, c.e.path)
			tr.wantSeqs(t, key("before", 0), upTo(200))
			tr.wantSeqs(t, key("lost", 0), seqRange(200, 300))
			tr.wantSeqs(t, key("after", 0), seqRange(200, 450))
		}
		s.wantResets(t, c.a, c.e, 1)
		if n, _ := c.a.Metrics().Value("kcagent_consumer_log_truncations_total", "consumer="+c.e.name); n != 1 {
			t.Errorf("%v truncations of %s are counted, want 1", n, c.e.name)
		}
		if want := `msg="log truncated" consumer=` + c.e.name; strings.Count(c.a.Log(), want) != 1 || !strings.Contains(c.a.Log(), "from=300 to=200") {
			t.Errorf("the log of %s does not have the truncation exactly once", c.e.name)
		}
	}
	out, err := exec.Command(agenttest.Binary(t), "verify", old.path).CombinedOutput()
	if counts := strings.Fields(string(out)); err == nil || !strings.Contains(strings.Join(counts, " "), topic+" 0 0 449 550 0 100 0") {
		t.Errorf("verify: %v\n%s", err, out)
	}
	const says = "was truncated: it diverges at offset 200 from what was consumed up to offset 300"
	blocked := func(a *agenttest.Agent) {
		t.Helper()
		c := a.WaitConsumer(strict.name, "fail", func(c agenttest.Consumer) bool { return c.Status == "ERROR" && strings.Contains(c.Error(), says) })
		if len(lines(t, strict.path)) != 300 || c.Committed() != 300 {
			t.Errorf("%d lines, %d committed, want 300", len(lines(t, strict.path)), c.Committed())
		}
	}
	blocked(a)
	stopAgent(t, a)
	a = agenttest.Start(t, agenttest.Options{Config: file(up, strict)})
	blocked(a)
	lenient := strict
	lenient.more = ""
	a.Apply(file(up, lenient))
	s.waitCommitted(t, a, lenient, 450)
	readTrail(t, lenient.path).wantSeqs(t, key("after", 0), seqRange(200, 450))

	// A clean change of the leader is no truncation.
	cluster.Restart(t)
	s.WaitISR(t, topic, 2)
	second.Stop()
	fill("after", 450, 50)
	s.waitCommitted(t, a, up, 500)
	s.waitCommitted(t, b, down, 500)
	s.waitCommitted(t, a, old, 500)
	readTrail(t, up.path).wantSeqs(t, key("after", 0), seqRange(200, 500))
	s.wantResets(t, b, down, 1)
	s.wantResets(t, a, up, 0) // since its restart
	s.wantResets(t, a, old, 0)
}
