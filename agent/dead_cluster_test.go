package agent

import (
	"fmt"
	"testing"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/kafka"
	"kcagent/config"
)

// TestClusterThatIsDownDelaysNoOtherJoin: consumers of a cluster that is down take no
// admission, and a consumer of another cluster joins at once.
func TestClusterThatIsDownDelaysNoOtherJoin(t *testing.T) {
	r := newRig(t, 1)
	text := "consumers:\n"
	for i := range 2 * kafka.MaxFirstJoins {
		text += fmt.Sprintf("  - {name: dead%d, brokers: [\"127.0.0.1:1\"], topics: [t], sink: {stdout: {}}}\n", i)
	}
	text += fmt.Sprintf("  - {name: c, brokers: [%q], topics: [t], sink: {stdout: {}}}\n", r.cluster.ListenAddrs()[0])
	c, problems := config.Parse("consumers.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r.updates <- config.Update{Config: c}
	r.wantStatus(consumer.Running)
	r.eventually("errors of all others", func() (bool, any) {
		n := r.agent.Status().Summary[consumer.Failing]
		return n == 2*kafka.MaxFirstJoins, n
	})
	for range 50 {
		for _, c := range r.agent.clusters.Open() {
			if n := c.Joining(); n > 0 && c.Reach.Brokers[0] == "127.0.0.1:1" {
				t.Errorf("%d admissions are in use for a cluster that is down", n)
			}
		}
		time.Sleep(time.Millisecond)
	}
}
