package e2e

import (
	"fmt"
	"net"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/badnet"
	"kcagent/e2e/kafkatest"
)

// statusCounts counts the consumers of a cluster by status.
func statusCounts(a *agenttest.Agent, cluster string) map[string]int {
	n := make(map[string]int)
	for _, c := range a.Status().Consumers {
		if c.Cluster == cluster {
			n[c.Status]++
		}
	}
	return n
}

// TestFailingClustersDelayNoOtherCluster: clusters that are unreachable, unresponsive,
// close connections or are slow do not delay consumers of another cluster: not their
// start, their records, an edit or their end.
func TestFailingClustersDelayNoOtherCluster(t *testing.T) {
	t.Parallel()
	const each = 20
	slow := newNetworkScene(t, kafkatest.Options{})
	s := newScene(t)
	s.dir, s.suffix = slow.dir, slow.suffix // one file with consumers of both
	// A join takes several round trips, so the slow consumers start long after the others,
	// on a machine under load as well.
	slow.proxies[0].Set(badnet.Fault{Latency: time.Second})
	topic := s.newTopic(t, "apart", 1)
	slow.CreateTopic(t, topic, 1)
	clusters := map[string][]string{
		"main": s.Addrs(), "slow": slow.AdvertisedAddrs(), "unreachable": {"127.0.0.1:1"},
		"unresponsive": {badnet.Listen(t, func(net.Conn) {})},
		"closing":      {badnet.Listen(t, func(c net.Conn) { _ = c.Close() })},
	}
	var good, all []entry
	for _, cluster := range []string{"unreachable", "unresponsive", "closing", "slow", "main"} {
		for i := range each {
			e := s.entry(fmt.Sprintf("%s-%d", cluster, i), topic).withCluster(cluster)
			if all = append(all, e); cluster == "main" {
				good = append(good, e)
			}
		}
	}
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 1000})
	slow.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 1000})
	a := agenttest.Start(t, agenttest.Options{Config: configText(clusters, all...)})
	for _, e := range good {
		s.waitCommitted(t, a, e, 1000)
	}
	for _, cluster := range []string{"unreachable", "unresponsive", "closing"} {
		if n := statusCounts(a, cluster); n["STARTING"]+n["ERROR"] != each {
			t.Errorf("consumers of the cluster %s are %v", cluster, n)
		}
	}
	if n := statusCounts(a, "slow"); n["RUNNING"] == each {
		t.Error("the consumers of the slow cluster run already: the test shows nothing")
	}
	slow.proxies[0].Set(badnet.Fault{Latency: 300 * time.Millisecond})
	paused := make([]entry, len(all))
	for i, e := range all {
		paused[i] = e.withState("paused")
	}
	a.Write(configText(clusters, paused...))
	for _, e := range good {
		a.WaitState(e.name, "PAUSED")
	}
	a.Write(configText(clusters, all...))
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: 1000, Count: 1000})
	for _, e := range good {
		s.waitCommitted(t, a, e, 2000)
	}
	for _, cluster := range []string{"unreachable", "unresponsive", "closing"} {
		c := a.WaitState(cluster+"-0", "ERROR")
		if took := c.StatusSince.Sub(c.CreatedAt); took > 30*time.Second {
			t.Errorf("%s was in ERROR after %v", c.Name, took)
		}
	}
	for _, e := range all {
		if e.cluster == "slow" {
			slow.waitCommitted(t, a, e, 1000)
			readTrail(t, e.path).wantExact(t, topic, 1, 1000)
		}
	}
	stopAgent(t, a)
	for _, e := range good {
		readTrail(t, e.path).wantExact(t, topic, 1, 2000)
	}
}
