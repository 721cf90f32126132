package e2e

import (
	"strings"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestOtherClusterAtTheAddressIsNotRead: if another cluster with the same topic responds
// at the address, the consumer reports it, reads nothing from it, and neither joins nor
// commits there. It resumes when its own cluster is back.
func TestOtherClusterAtTheAddressIsNotRead(t *testing.T) {
	t.Parallel()
	const partitions, each = 4, 500
	n := newNetworkScene(t, kafkatest.Options{})
	proxy := n.proxies[0]
	var there string
	other := kafkatest.Start(t, kafkatest.Options{ClusterID: "b3RoZXItY2x1c3Rlci0wMQ", Advertise: func(addr string) string {
		there = addr
		return proxy.Addr()
	}})
	topic := n.newTopic(t, "moved", partitions)
	other.CreateTopic(t, topic, partitions)
	f := n.newFeed(topic, partitions)
	f.produce(t, each)
	other.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: 1_000_000, Count: 3 * each})
	e := n.entry("moved", topic)
	config := configText(map[string][]string{"main": n.AdvertisedAddrs()}, e)
	a := agenttest.Start(t, agenttest.Options{Config: strings.Replace(config, "  main: {", "  main: {session_timeout: 10s, ", 1)})
	n.waitCommitted(t, a, e, partitions*each)
	id := a.WaitState(e.name, "RUNNING").ID

	here := proxy.Server()
	proxy.Redirect(there, false)
	a.WaitConsumer(e.name, "name both clusters", func(c agenttest.Consumer) bool {
		return c.Status == "ERROR" && strings.Contains(c.Error(), "broker "+proxy.Addr()+" belongs to cluster b3RoZXItY2x1c3Rlci0wMQ, but this consumer reads from cluster ")
	})
	time.Sleep(15 * time.Second) // longer than a session
	if g := other.Group(t, e.group); g.State != "Dead" {
		t.Errorf("the other cluster has the group: %+v", g)
	}
	readTrail(t, e.path).wantExact(t, topic, partitions, each)

	f.produce(t, each)
	proxy.Redirect(here, false)
	n.waitCommitted(t, a, e, 2*partitions*each)
	if c := a.WaitState(e.name, "RUNNING"); c.ID != id {
		t.Error("the consumer was replaced")
	}
	stopAgent(t, a)
	readTrail(t, e.path).wantExact(t, topic, partitions, 2*each)
}
