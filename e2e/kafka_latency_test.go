package e2e

import (
	"fmt"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/badnet"
	"kcagent/e2e/kafkatest"
)

// TestLatencyDoesNotMultiplyByPartitions: with a round trip of 100 ms, a consumer of 1,000
// partitions runs soon, a second agent gets its share soon, and a stopped one leaves at
// once. The aims are 3 s and 5 s; a busy machine takes several times as long. sarama's
// requests for one offset after the other would take 100 s each, so the limits are well
// below that.
func TestLatencyDoesNotMultiplyByPartitions(t *testing.T) {
	t.Parallel()
	const partitions = 1000
	n := newNetworkScene(t, kafkatest.Options{Properties: map[string]string{"group.initial.rebalance.delay.ms": "0"}})
	topic := n.newTopic(t, "far", partitions)
	n.proxies[0].Set(badnet.Fault{Latency: 50 * time.Millisecond})
	e := n.entry("far", topic)
	share := func(a *agenttest.Agent, want int) {
		t.Helper()
		a.WaitConsumer("far", fmt.Sprintf("RUNNING with %d partitions", want), func(c agenttest.Consumer) bool {
			return c.Status == "RUNNING" && len(c.Partitions) == want
		})
	}
	within := func(what string, began time.Time, limit time.Duration) {
		t.Helper()
		took := time.Since(began)
		if t.Logf("%s: %v", what, took); took > limit {
			t.Errorf("%s took %v, more than %v", what, took, limit)
		}
	}
	configText := func(e entry) string { return configText(map[string][]string{"main": n.AdvertisedAddrs()}, e) }
	agenttest.Binary(t)       // do not measure the build
	n.Coordinator(t, e.group) // nor the creation of the topic of committed offsets
	began := time.Now()
	a := agenttest.Start(t, agenttest.Options{Config: configText(e)})
	share(a, partitions)
	within("the start of the first agent", began, 40*time.Second)

	a.Write(configText(e.withState("stopped")))
	a.WaitState("far", "CREATED")
	began = time.Now()
	a.Write(configText(e))
	share(a, partitions)
	within("the start with a coordinator that knows the group", began, 30*time.Second)

	began = time.Now()
	e.path += "-2"
	b := agenttest.Start(t, agenttest.Options{Config: configText(e)})
	share(b, partitions/2)
	share(a, partitions/2)
	within("the join of the second agent", began, 40*time.Second)

	began = time.Now()
	b.Write(configText(e.withState("stopped")))
	b.WaitState("far", "CREATED")
	within("the stop of the second agent", began, 30*time.Second)
	share(a, partitions)
	within("the return of its partitions", began, 40*time.Second)
	if c := a.Consumer("far"); c.RebalancesTotal != 4 || c.RestartsTotal != 0 {
		t.Errorf("%d generations and %d restarts, want 4 and 0", c.RebalancesTotal, c.RestartsTotal)
	}
}
