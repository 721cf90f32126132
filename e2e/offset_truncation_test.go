package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// A divergence is a topic with a replica on two of three brokers. Its leader can be replaced
// by the replica that lacks records.
type divergence struct {
	*scene
	topic         string
	first, second *kafkatest.Broker // with a replica; broker 1 is the controller
}

func newDivergence(t *testing.T) *divergence {
	t.Helper()
	c := kafkatest.Start(t, kafkatest.Options{Brokers: 3, Properties: map[string]string{
		"offsets.topic.replication.factor": "3", "replica.lag.time.max.ms": "3000",
	}})
	d := &divergence{scene: newSceneOn(t, c), first: c.Brokers[1], second: c.Brokers[2]}
	d.topic = "unclean-" + d.suffix
	d.CreateOn(t, d.topic, d.first, d.second)
	return d
}

// fill produces records whose values name a branch instead of the topic.
func (d *divergence) fill(t *testing.T, branch string, from, count int) {
	t.Helper()
	value := func(_ string, p int32, seq int) []byte { return kafkatest.Value(branch, p, seq) }
	d.Produce(t, kafkatest.Load{Topic: d.topic, Partitions: 1, First: from, Count: count, Value: value})
}

// stopSecond stops the second broker once it is in sync. It lacks all records after that.
func (d *divergence) stopSecond(t *testing.T) {
	t.Helper()
	d.WaitISR(t, d.topic, 2)
	d.second.Stop()
}

// electSecond stops the first broker and makes the second one the leader.
func (d *divergence) electSecond(t *testing.T) {
	t.Helper()
	d.first.Stop()
	d.StartBroker(t, d.second)
	d.ElectUnclean(t, d.topic, d.second)
}

// wantBlocked requires that a consumer reports the truncation as its error and has neither
// written nor committed anything after it.
func (d *divergence) wantBlocked(t *testing.T, a *agenttest.Agent, e entry) {
	t.Helper()
	c := a.WaitConsumer(e.name, "report the truncation", func(c agenttest.Consumer) bool {
		return c.Status == "ERROR" && strings.Contains(c.Error(), "was truncated: it diverges at offset 200 from what was consumed up to offset 300")
	})
	if n := len(lines(t, e.path)); n != 300 || c.Committed() != 300 {
		t.Errorf("%d lines, %d committed, want 300", n, c.Committed())
	}
}

// TestUncleanLeaderElectionRereadsDivergedRecords: a replica without the last 100 consumed
// records becomes the leader and gets other records at the same offsets. A consumer reads
// all of the new ones, whether its agent was up or down. With on_offset_out_of_range: fail
// it stops, and its error names the diverging offset.
func TestUncleanLeaderElectionRereadsDivergedRecords(t *testing.T) {
	t.Parallel()
	s := newDivergence(t)
	topic := s.topic
	up, strict, down := s.entry("up", topic), s.entry("strict", topic).with("on_offset_out_of_range: fail"), s.entry("down", topic).with("on_offset_out_of_range: latest")
	// A consumer with the requests of Kafka 2.6 has to request the end offsets of epochs itself.
	old := s.entry("old", topic).withFormat("json").withCluster("older")
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
	s.fill(t, "before", 0, 200)
	arrive(200)
	s.stopSecond(t)
	s.WaitISR(t, topic, 1)
	s.fill(t, "lost", 200, 100)
	arrive(300)
	stopAgent(t, b)
	s.electSecond(t)
	s.fill(t, "after", 200, 250)

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
		s.wantTruncation(t, c.a, c.e)
	}
	out, err := exec.Command(agenttest.Binary(t), "verify", old.path).CombinedOutput()
	if counts := strings.Fields(string(out)); err == nil || !strings.Contains(strings.Join(counts, " "), topic+" 0 0 449 550 0 100 0") {
		t.Errorf("verify: %v\n%s", err, out)
	}
	s.wantBlocked(t, a, strict)
	stopAgent(t, a)
	a = agenttest.Start(t, agenttest.Options{Config: file(up, strict)})
	s.wantBlocked(t, a, strict)
	lenient := strict
	lenient.more = ""
	a.Apply(file(up, lenient))
	s.waitCommitted(t, a, lenient, 450)
	readTrail(t, lenient.path).wantSeqs(t, key("after", 0), seqRange(200, 450))

	// A clean change of the leader is no truncation.
	s.Restart(t)
	s.stopSecond(t)
	s.fill(t, "after", 450, 50)
	s.waitCommitted(t, a, up, 500)
	s.waitCommitted(t, b, down, 500)
	s.waitCommitted(t, a, old, 500)
	readTrail(t, up.path).wantSeqs(t, key("after", 0), seqRange(200, 500))
	s.wantResets(t, b, down, 1)
	s.wantResets(t, a, up, 0) // since its restart
	s.wantResets(t, a, old, 0)
}

// wantTruncation requires that a consumer has reported the truncation of the log from offset
// 300 to 200 once, in its metrics and in its log.
func (s *scene) wantTruncation(t *testing.T, a *agenttest.Agent, e entry) {
	t.Helper()
	s.wantResets(t, a, e, 1)
	if n, _ := a.Metrics().Value("kcagent_consumer_log_truncations_total", "consumer="+e.name); n != 1 {
		t.Errorf("%v truncations of %s are counted, want 1", n, e.name)
	}
	if want := `msg="log truncated" consumer=` + e.name; strings.Count(a.Log(), want) != 1 || !strings.Contains(a.Log(), "from=300 to=200") {
		t.Errorf("the log of %s does not have the truncation exactly once", e.name)
	}
}
