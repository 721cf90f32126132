package e2e

import (
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// An outage is a consumer on a cluster of its own, which fails, beside one on
// a cluster that does not.
type outageScene struct {
	*scene
	failing *scene // the same files and names, on the cluster that fails
	agent   *agenttest.Agent
	e, safe entry
	text    string
	made    int // records in each topic
}

func newOutageScene(t *testing.T) *outageScene {
	t.Helper()
	o := &outageScene{scene: newScene(t)}
	o.failing = &scene{Cluster: kafkatest.Start(t, kafkatest.Options{}), dir: o.dir, suffix: o.suffix}
	o.safe = o.entry("safe", o.newTopic(t, "safe", 1))
	o.e = o.entry("failing", o.failing.newTopic(t, "failing", 2)).withCluster("other")
	o.text = configText(map[string][]string{"main": o.Addrs(), "other": o.failing.Addrs()}, o.e, o.safe)
	return o
}

// wantError waits until the consumer on the failing cluster says why it fails,
// and sees that the other one still works and is who it was.
func (o *outageScene) wantError(t *testing.T, safe identity) {
	t.Helper()
	c := o.agent.WaitState("failing", "ERROR")
	if c.Error() == "" {
		t.Error("the consumer is in ERROR without a cause")
	}
	if !strings.Contains(o.agent.Log(), "to=ERROR") {
		t.Error("the log does not tell of the move to ERROR")
	}
	if v, _ := o.agent.Metrics().Value("kcagent_consumer_status", "consumer=failing", "status=ERROR"); v != 1 {
		t.Error("the metrics do not tell of the ERROR")
	}
	o.Produce(t, kafkatest.Load{Topic: o.safe.topics[0], Partitions: 1, First: o.made, Count: 100})
	o.made += 100
	o.waitCommitted(t, o.agent, o.safe, int64(o.made))
	if safe.id != "" {
		wantSame(t, o.agent, "safe", safe)
	}
}

// wantHealed waits until everything has come through that was produced to the
// failing cluster: n records a partition.
func (o *outageScene) wantHealed(t *testing.T, n int) {
	t.Helper()
	c := o.agent.WaitState("failing", "RUNNING")
	o.failing.waitCommitted(t, o.agent, o.e, int64(2*n))
	readTrail(t, o.e.path).wantAllWithRepeats(t, o.e.topics[0], 2, n)
	if c.LastError != nil {
		t.Errorf("the consumer is RUNNING and shows the error %s", c.Error())
	}
}

func TestConsumerRecoversFromBrokerOutages(t *testing.T) {
	t.Parallel()
	o := newOutageScene(t)
	load := func(first, count int) {
		o.failing.Produce(t, kafkatest.Load{Topic: o.e.topics[0], Partitions: 2, First: first, Count: count})
	}
	load(0, 1000)
	o.failing.Stop()

	o.agent = agenttest.Start(t, agenttest.Options{Config: o.text}) // away at the start
	o.wantError(t, identity{})
	safe := identify(t, o.agent.Consumer("safe"))
	o.failing.Restart(t)
	o.wantHealed(t, 1000)

	load(1000, 20_000)
	o.failing.Stop() // in mid-run
	o.wantError(t, safe)
	id := o.agent.Consumer("failing").ID
	o.failing.Restart(t)
	load(21_000, 1000)
	o.wantHealed(t, 22_000)
	if now := o.agent.Consumer("failing").ID; now != id {
		t.Error("the outage changed the consumer's id")
	}

	o.failing.Kill() // paused while it is away, and it stays so when it is back
	o.agent.WaitState("failing", "ERROR")
	o.agent.Write(configText(map[string][]string{"main": o.Addrs(), "other": o.failing.Addrs()}, o.e.withState("paused"), o.safe))
	o.failing.Restart(t)
	o.agent.WaitState("failing", "PAUSED")
	wantSame(t, o.agent, "safe", safe)
}

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
	o.agent.WaitStatus("the consumer on the black hole to be gone", func(s agenttest.Status) bool {
		_, is := s.Consumer("failing")
		return !is
	})
	o.Produce(t, kafkatest.Load{Topic: o.safe.topics[0], Partitions: 1, Count: 100})
	o.waitCommitted(t, o.agent, o.safe, 100)
	wantSame(t, o.agent, "safe", safe)
	if z := o.agent.Threads().Zombies; len(z) > 0 {
		t.Errorf("zombies %+v, want none: connections can be cut", z)
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
		t.Errorf("the error %q tells neither of authorisation nor of %s", c.Error(), topic)
	}
	allow()
	a.WaitState("forbidden", "RUNNING")
	s.waitCommitted(t, a, e, 10)
}
