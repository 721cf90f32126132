package e2e

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// rollOut replaces the configuration file of an agent and waits for the result as an
// operator does: by kcagent status --wait.
func rollOut(t *testing.T, a *agenttest.Agent, text string) {
	t.Helper()
	a.Write(text)
	out, err := exec.Command(agenttest.Binary(t), "status", "--wait", a.Path, "--timeout", "2m", "--url", a.URL).CombinedOutput()
	if err != nil {
		t.Fatalf("status --wait: %v\n%s", err, out)
	}
}

// TestConsumerMovesToAnotherHost moves a consumer to another host and back, in the steps of
// docs/operations.md, while records arrive. Each record is in a file of one host, once, and
// the other consumers of both hosts are not touched.
func TestConsumerMovesToAnotherHost(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "moving", 2)
	stays := []entry{s.entry("first", topic), s.entry("second", topic)}
	moving := []entry{ // the same consumer on each host
		s.entry("moving", topic).static("host-1").withPath(filepath.Join(s.dir, "host-1", "out.log")),
		s.entry("moving", topic).static("host-2").withPath(filepath.Join(s.dir, "host-2", "out.log")),
	}
	hosts := []*agenttest.Agent{
		agenttest.Start(t, agenttest.Options{Config: s.config(stays[0], moving[0])}),
		agenttest.Start(t, agenttest.Options{Config: s.config(stays[1])}),
	}
	stop, produced := s.keepProducingEvery(t, 50*time.Millisecond, topic, 2)
	var was [2]identity
	for i, a := range hosts {
		was[i] = identify(t, a.WaitState(stays[i].name, "RUNNING"))
	}
	reads := func(host int) {
		t.Helper()
		hosts[host].WaitConsumer("moving", "read", func(c agenttest.Consumer) bool { return c.Status == "RUNNING" && c.RecordsTotal > 0 })
	}
	reads(0)
	for _, move := range [][2]int{{0, 1}, {1, 0}} {
		from, to := move[0], move[1]
		rollOut(t, hosts[from], s.config(stays[from]))
		if end, ok := hosts[from].Status().Ended("moving"); !ok || !end.Clean {
			t.Errorf("the consumer has not ended cleanly on host %d: %+v", from+1, end)
		}
		rollOut(t, hosts[to], s.config(stays[to], moving[to]))
		reads(to)
	}
	stop()
	s.waitCommitted(t, hosts[0], moving[0], int64(2*produced()))
	readTrail(t, moving[0].path, moving[1].path).sorted().wantExact(t, topic, 2, produced())
	for i, a := range hosts {
		wantSame(t, a, stays[i].name, was[i])
		if len(lines(t, moving[i].path)) == 0 {
			t.Errorf("host %d has written no record", i+1)
		}
	}
	s.wantResets(t, hosts[0], moving[0], 0)
}

// TestConsumerMovesToAnotherCluster moves a consumer to a cluster that has a mirror of its
// topic with other offsets, in the steps of docs/operations.md. Each record is in one of the
// two files, once, and a consumer of the former cluster is not touched.
func TestConsumerMovesToAnotherCluster(t *testing.T) {
	t.Parallel()
	const each, dropped = 1000, 400 // the mirror began with record 400, at offset 0
	s := newScene(t)
	there := kafkatest.Start(t, kafkatest.Options{ClusterID: "bWlycm9yLWNsdXN0ZXItMQ"})
	topic := s.newTopic(t, "mirrored", 2)
	there.CreateTopic(t, topic, 2)
	mirror := func(first, count int) {
		t.Helper()
		there.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, First: first, Count: count})
	}
	safe, e := s.entry("safe", topic), s.entry("moving", topic)
	text := func(e entry) string {
		return configText(map[string][]string{"main": s.Addrs(), "new": there.Addrs()}, safe, e)
	}
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: each})
	a := agenttest.Start(t, agenttest.Options{Config: text(e)})
	s.waitCommitted(t, a, e, 2*each)
	s.waitCommitted(t, a, safe, 2*each)
	was := identify(t, a.Consumer("safe"))

	rollOut(t, a, text(e.withState("stopped")))
	mirror(dropped, each)            // up to record 1400
	offsets := make(map[int32]int64) // of the first record that was not consumed
	for p, offset := range s.Committed(t, e.group, topic) {
		offsets[p] = offset - dropped
	}
	there.ResetOffsets(t, e.group, topic, offsets)
	moved := e.withCluster("new").withPath(filepath.Join(s.dir, "moved.log"))
	rollOut(t, a, text(moved))
	mirror(dropped+each, 100)
	onNew := &scene{Cluster: there, dir: s.dir, suffix: s.suffix}
	onNew.waitCommitted(t, a, moved, 2*(each+100))
	for p := range int32(2) {
		readTrail(t, e.path).wantSeqs(t, key(topic, p), upTo(each))
		readTrail(t, moved.path).wantSeqs(t, key(topic, p), seqRange(each, dropped+each+100))
	}
	wantSame(t, a, "safe", was)
	s.wantResets(t, a, moved, 0)
}
