package e2e

import (
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// An outageScene has a consumer on a cluster that fails, beside one on a cluster that does
// not.
type outageScene struct {
	*scene
	failing *scene // on the cluster that fails, with the same files and names
	agent   *agenttest.Agent
	e, safe entry
	text    string
	feed    *feed // of safe
}

func newOutageScene(t *testing.T) *outageScene {
	t.Helper()
	o := &outageScene{scene: newScene(t)}
	o.failing = &scene{Cluster: kafkatest.Start(t, kafkatest.Options{}), dir: o.dir, suffix: o.suffix}
	o.safe = o.entry("safe", o.newTopic(t, "safe", 1))
	o.feed = o.newFeed(o.safe.topics[0], 1)
	o.e = o.entry("failing", o.failing.newTopic(t, "failing", 2)).withCluster("other")
	o.text = configText(map[string][]string{"main": o.Addrs(), "other": o.failing.Addrs()}, o.e, o.safe)
	return o
}

// wantError waits until the consumer on the failing cluster reports its error, and
// requires that the other consumer works and was not touched.
func (o *outageScene) wantError(t *testing.T, safe identity) {
	t.Helper()
	c := o.agent.WaitState("failing", "ERROR")
	if c.Error() == "" {
		t.Error("the consumer is in ERROR without a cause")
	}
	if !strings.Contains(o.agent.Log(), "to=ERROR") {
		t.Error("the log does not report the ERROR")
	}
	if v, _ := o.agent.Metrics().Value("kcagent_consumer_status", "consumer=failing", "status=ERROR"); v != 1 {
		t.Error("the metrics do not report the ERROR")
	}
	o.feed.produce(t, 100)
	o.waitCommitted(t, o.agent, o.safe, o.feed.total())
	if safe.id != "" {
		wantSame(t, o.agent, "safe", safe)
	}
}

// wantRecovered waits until the consumer has read n records of each partition of the
// failing cluster.
func (o *outageScene) wantRecovered(t *testing.T, n int) {
	t.Helper()
	c := o.agent.WaitState("failing", "RUNNING")
	o.failing.waitCommitted(t, o.agent, o.e, int64(2*n))
	readTrail(t, o.e.path).wantAllWithRepeats(t, o.e.topics[0], 2, n)
	if c.LastError != nil {
		t.Errorf("the consumer is RUNNING and shows the error %s", c.Error())
	}
}

// TestConsumerRecoversFromBrokerOutages stops the broker before the start, while records
// arrive, and during a pause.
func TestConsumerRecoversFromBrokerOutages(t *testing.T) {
	t.Parallel()
	o := newOutageScene(t)
	load := func(first, count int) {
		o.failing.Produce(t, kafkatest.Load{Topic: o.e.topics[0], Partitions: 2, First: first, Count: count})
	}
	load(0, 1000)
	o.failing.Stop()

	o.agent = agenttest.Start(t, agenttest.Options{Config: o.text}) // down at the start
	o.wantError(t, identity{})
	safe := identify(t, o.agent.Consumer("safe"))
	o.failing.Restart(t)
	o.wantRecovered(t, 1000)

	load(1000, 20_000)
	o.failing.Stop() // while records arrive
	o.wantError(t, safe)
	id := o.agent.Consumer("failing").ID
	o.failing.Restart(t)
	load(21_000, 1000)
	o.wantRecovered(t, 22_000)
	if now := o.agent.Consumer("failing").ID; now != id {
		t.Error("the outage changed the consumer's id")
	}

	o.failing.Kill() // paused during the outage, and still paused after it
	o.agent.WaitState("failing", "ERROR")
	o.agent.Write(configText(map[string][]string{"main": o.Addrs(), "other": o.failing.Addrs()}, o.e.withState("paused"), o.safe))
	o.failing.Restart(t)
	o.agent.WaitState("failing", "PAUSED")
	wantSame(t, o.agent, "safe", safe)
}

// TestUnresponsiveBrokerDelaysNoOtherConsumer: a consumer of an unresponsive cluster can
// be removed, without a zombie and without delay for others.
func TestUnresponsiveBrokerDelaysNoOtherConsumer(t *testing.T) {
	t.Parallel()
	o := newOutageScene(t)
	o.agent = agenttest.Start(t, agenttest.Options{Config: o.text})
	o.agent.WaitState("failing", "RUNNING")
	o.agent.WaitState("safe", "RUNNING")
	safe := identify(t, o.agent.Consumer("safe"))
	o.failing.Pause()
	defer o.failing.Continue()
	o.agent.Write(configText(map[string][]string{"main": o.Addrs()}, o.safe))
	o.agent.WaitStatus("the consumer of the unresponsive cluster to end", func(s agenttest.Status) bool {
		_, is := s.Consumer("failing")
		return !is
	})
	o.feed.produce(t, 100)
	o.waitCommitted(t, o.agent, o.safe, 100)
	wantSame(t, o.agent, "safe", safe)
	if z := o.agent.Threads().Zombies; len(z) > 0 {
		t.Errorf("zombies %+v, want none: the agent can close connections", z)
	}
}

func TestMissingTopicIsNamedUntilItIsCreated(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	there, missing := s.newTopic(t, "there", 1), "missing-"+s.suffix
	e, safe := s.entry("waits", missing), s.entry("safe", there)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e, safe)})
	if c := a.WaitState("waits", "ERROR"); !strings.Contains(c.Error(), missing) {
		t.Errorf("the error %q does not name the topic %s", c.Error(), missing)
	}
	a.WaitState("safe", "RUNNING")
	s.CreateTopic(t, missing, 1)
	s.Produce(t, kafkatest.Load{Topic: missing, Partitions: 1, Count: 10})
	a.WaitState("waits", "RUNNING")
	s.waitCommitted(t, a, e, 10)
	readTrail(t, e.path).wantExact(t, missing, 1, 10)
}

func TestForbiddenTopicIsNamedUntilItIsAllowed(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "forbidden", 1)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 10})
	allow := s.Deny(t, topic)
	e := s.entry("forbidden", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	c := a.WaitState("forbidden", "ERROR")
	if cause := strings.ToLower(c.Error()); !strings.Contains(cause, "auth") || !strings.Contains(cause, topic) {
		t.Errorf("the error %q names neither authorization nor %s", c.Error(), topic)
	}
	allow()
	a.WaitState("forbidden", "RUNNING")
	s.waitCommitted(t, a, e, 10)
}
