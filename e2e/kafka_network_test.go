package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/badnet"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// A networkScene has a proxy between agents and each broker of a cluster of its own.
type networkScene struct {
	*scene
	proxies []*badnet.Proxy // of the brokers
}

// newNetworkScene starts the cluster. Agents reach it at AdvertisedAddrs.
func newNetworkScene(t *testing.T, o kafkatest.Options) *networkScene {
	t.Helper()
	n := &networkScene{scene: newScene(t)}
	o.Advertise = func(addr string) string {
		proxy := badnet.Start(t, addr)
		n.proxies = append(n.proxies, proxy)
		return proxy.Addr()
	}
	n.Cluster = kafkatest.Start(t, o)
	return n
}

// TestNetworkFaultsLoseAndRepeatNothing: every record arrives once, whatever the network
// does, and the consumer recovers by itself. An unresponsive broker is reported within
// half a minute.
func TestNetworkFaultsLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	const partitions, each = 4, 2000
	n := newNetworkScene(t, kafkatest.Options{})
	topic := n.newTopic(t, "faults", partitions)
	e := n.entry("faults", topic)
	a := agenttest.Start(t, agenttest.Options{Config: configText(map[string][]string{"main": n.AdvertisedAddrs()}, e)})
	id := a.WaitState("faults", "RUNNING").ID
	f := n.newFeed(topic, partitions)
	for _, fault := range []struct {
		name   string
		fault  badnet.Fault
		errors bool // the consumer reports it
		slow   bool // records arrive, slowly
	}{
		{"reset", badnet.Fault{Refuse: true}, true, false},
		{"lost responses", badnet.Fault{LoseAnswers: true}, true, false},
		{"lost requests", badnet.Fault{LoseRequests: true}, true, false},
		{"reset within a response", badnet.Fault{ResetAfter: 5000}, true, false},
		{"1 kB/s", badnet.Fault{BytesPerSecond: 1000}, false, false},
		{"500 ms both ways", badnet.Fault{Latency: 500 * time.Millisecond}, false, true},
		{"small pieces", badnet.Fault{SmallPieces: true}, false, true},
	} {
		began := time.Now()
		n.proxies[0].Set(fault.fault)
		f.produce(t, each)
		switch {
		case fault.errors:
			c := a.WaitState("faults", "ERROR")
			if took := c.StatusSince.Sub(began); took > 30*time.Second {
				t.Errorf("%s was reported after %v", fault.name, took)
			}
		case fault.slow:
			n.waitCommitted(t, a, e, f.total())
		default:
			n.holdFault(t, a, 5*time.Second)
		}
		n.proxies[0].Set(badnet.Fault{})
		n.waitCommitted(t, a, e, f.total())
		c := a.WaitState("faults", "RUNNING")
		if c.ID != id {
			t.Errorf("%s: the consumer was replaced", fault.name)
		}
		t.Logf("%s: done after %v, generation %d, %d restarts", fault.name, time.Since(began).Round(100*time.Millisecond), c.Generation, c.RestartsTotal)
	}
	readTrail(t, e.path).wantExact(t, topic, partitions, f.produced)
	stopAgent(t, a)
}

// holdFault keeps a fault for a time, in which the agent must not end.
func (n *networkScene) holdFault(t *testing.T, a *agenttest.Agent, d time.Duration) {
	t.Helper()
	began := time.Now()
	wait.For(t, wait.Timeout, "the end of the fault", func() error {
		a.Status()
		if left := d - time.Since(began); left > 0 {
			return fmt.Errorf("%v remain", left)
		}
		return nil
	})
}

// TestUnresponsiveCoordinatorIsReportedWhileReadingContinues: a consumer whose coordinator
// alone is unresponsive reports it within half a minute, keeps reading meanwhile, and
// keeps its identity when the coordinator responds again.
func TestUnresponsiveCoordinatorIsReportedWhileReadingContinues(t *testing.T) {
	t.Parallel()
	n := newNetworkScene(t, kafkatest.Options{Brokers: 2})
	const group = "unresponsive"
	coordinator := n.Coordinator(t, group)
	var topic string
	for i := 0; topic == ""; i++ {
		name := n.newTopic(t, fmt.Sprintf("elsewhere-%d", i), 1)
		n.Produce(t, kafkatest.Load{Topic: name, Partitions: 1, Count: 100})
		if leader, _, err := n.Client().PartitionLeader(name, 0); err == nil && int(leader) != coordinator {
			topic = name
		}
	}
	e := n.entry("unresponsive", topic).withGroup(group)
	a := agenttest.Start(t, agenttest.Options{Config: configText(map[string][]string{"main": n.AdvertisedAddrs()}, e)})
	n.waitCommitted(t, a, e, 100)
	id := a.WaitState("unresponsive", "RUNNING").ID
	began := time.Now()
	n.proxies[coordinator-1].Set(badnet.Fault{LoseAnswers: true})
	n.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: 100, Count: 100})
	waitLines(t, e.path, 200)
	want := "its coordinator at " + n.proxies[coordinator-1].Addr() + " has not responded within "
	c := a.WaitConsumer("unresponsive", "report its coordinator", func(c agenttest.Consumer) bool {
		return c.Status == "ERROR" && strings.Contains(c.Error(), want)
	})
	if took := c.StatusSince.Sub(began); took > 30*time.Second {
		t.Errorf("it was reported after %v", took)
	}
	n.proxies[coordinator-1].Set(badnet.Fault{})
	n.waitCommitted(t, a, e, 200)
	if c := a.WaitState("unresponsive", "RUNNING"); c.ID != id {
		t.Error("the consumer was replaced")
	}
	readTrail(t, e.path).wantExact(t, topic, 1, 200)
	stopAgent(t, a)
}
