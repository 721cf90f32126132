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

// A network lies between agents and a cluster of their own, and can be made bad.
type networkScene struct {
	*scene
	proxies []*badnet.Proxy // of the brokers
}

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

// TestNetworkFaultsLoseAndRepeatNothing: whatever the network does, each record comes once, and
// nobody has to restart anything. A broker that falls silent is told of within
// half a minute.
func TestNetworkFaultsLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	const partitions, each = 4, 2000
	n := newNetworkScene(t, kafkatest.Options{})
	topic := n.newTopic(t, "faults", partitions)
	e := n.entry("faults", topic)
	a := agenttest.Start(t, agenttest.Options{Config: configText(map[string][]string{"main": n.AdvertisedAddrs()}, e)})
	id := a.WaitState("faults", "RUNNING").ID
	made := 0
	more := func() {
		n.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: made, Count: each})
		made += each
	}
	for _, fault := range []struct {
		name   string
		fault  badnet.Fault
		shows  bool // as ERROR
		passes bool // records, if slowly
	}{
		{"cut", badnet.Fault{Refuse: true}, true, false},
		{"black hole for answers", badnet.Fault{LoseAnswers: true}, true, false},
		{"black hole for requests", badnet.Fault{LoseRequests: true}, true, false},
		{"reset in mid-answer", badnet.Fault{ResetAfter: 5000}, true, false},
		{"1 kB/s", badnet.Fault{BytesASecond: 1000}, false, false},
		{"500 ms both ways", badnet.Fault{Latency: 500 * time.Millisecond}, false, true},
		{"small pieces", badnet.Fault{SmallPieces: true}, false, true},
	} {
		began := time.Now()
		n.proxies[0].Set(fault.fault)
		more()
		switch {
		case fault.shows:
			a.WaitState("faults", "ERROR")
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("%s was noticed after %v", fault.name, took)
			}
		case fault.passes:
			n.waitCommitted(t, a, e, int64(partitions*made))
		default:
			n.hold(t, a, 5*time.Second)
		}
		n.proxies[0].Set(badnet.Fault{})
		n.waitCommitted(t, a, e, int64(partitions*made))
		c := a.WaitState("faults", "RUNNING")
		if c.ID != id {
			t.Errorf("%s: the consumer was replaced", fault.name)
		}
		t.Logf("%s: done after %v, generation %d, %d restarts", fault.name, time.Since(began).Round(100*time.Millisecond), c.Generation, c.RestartsTotal)
	}
	readTrail(t, e.path).wantExact(t, topic, partitions, made)
	stopAgent(t, a)
}

// hold lets a fault last, while the agent must not end.
func (n *networkScene) hold(t *testing.T, a *agenttest.Agent, d time.Duration) {
	t.Helper()
	began := time.Now()
	wait.For(t, wait.Timeout, "the time to pass", func() error {
		a.Status()
		if left := d - time.Since(began); left > 0 {
			return fmt.Errorf("%v are left", left)
		}
		return nil
	})
}

// TestUnresponsiveCoordinatorIsReportedWhileReadingContinues: a consumer whose coordinator has become a black hole, and
// nothing else, tells of it within half a minute, reads on meanwhile, and is itself
// again when that speaks.
func TestUnresponsiveCoordinatorIsReportedWhileReadingContinues(t *testing.T) {
	t.Parallel()
	n := newNetworkScene(t, kafkatest.Options{Brokers: 2})
	const group = "silent"
	coordinator := n.Coordinator(t, group)
	var topic string
	for i := 0; topic == ""; i++ {
		name := n.newTopic(t, fmt.Sprintf("elsewhere-%d", i), 1)
		n.Produce(t, kafkatest.Load{Topic: name, Partitions: 1, Count: 100})
		if leader, _, err := n.Client().PartitionLeader(name, 0); err == nil && int(leader) != coordinator {
			topic = name
		}
	}
	e := n.entry("silent", topic).withGroup(group)
	a := agenttest.Start(t, agenttest.Options{Config: configText(map[string][]string{"main": n.AdvertisedAddrs()}, e)})
	n.waitCommitted(t, a, e, 100)
	id := a.WaitState("silent", "RUNNING").ID
	began := time.Now()
	n.proxies[coordinator-1].Set(badnet.Fault{LoseAnswers: true})
	n.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, First: 100, Count: 100})
	waitLines(t, e.path, 200)
	want := "its coordinator at " + n.proxies[coordinator-1].Addr() + " has not responded within "
	a.WaitConsumer("silent", "tell of its coordinator", func(c agenttest.Consumer) bool {
		return c.Status == "ERROR" && strings.Contains(c.Error(), want)
	})
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it was noticed after %v", took)
	}
	n.proxies[coordinator-1].Set(badnet.Fault{})
	n.waitCommitted(t, a, e, 200)
	if c := a.WaitState("silent", "RUNNING"); c.ID != id {
		t.Error("the consumer was replaced")
	}
	readTrail(t, e.path).wantExact(t, topic, 1, 200)
	stopAgent(t, a)
}
