package precheck

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"kcagent/agent/testkit"
	"kcagent/e2e/badnet"
)

// TestProbeChecksGroupsAtOnce: the groups of a cluster are not checked one after the other,
// which would take longer than a probe may if the round trip is long.
func TestProbeChecksGroupsAtOnce(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	far := badnet.Start(t, cluster.ListenAddrs()[0])
	far.Set(badnet.Fault{Latency: 250 * time.Millisecond})
	text := fmt.Sprintf("defaults: {brokers: [%q], topics: [t], sink: {stdout: {}}}\nconsumers:\n", far.Addr())
	for i := range int(2 * probeTimeout / (500 * time.Millisecond)) {
		text += fmt.Sprintf("- {name: c%d}\n", i)
	}
	for _, f := range Probe(t.Context(), testkit.Parse(t, text).Consumers) {
		t.Fatalf("%s: %v", f.Consumer, f.Err)
	}
}
