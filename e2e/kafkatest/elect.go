package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/e2e/wait"
)

// StartBroker starts a broker that is down, and returns when the cluster knows it.
func (c *Cluster) StartBroker(t testing.TB, b *Broker) {
	t.Helper()
	if err := b.launch(); err != nil {
		t.Fatal(err)
	}
	wait.For(t, readyTimeout, fmt.Sprintf("broker %d", b.id), func() error {
		for _, known := range Request(t, c, "metadata of the brokers", topicMetadata(), nil).Brokers {
			if known.NodeID == int32(b.id) {
				return nil
			}
		}
		return errors.New("the metadata do not name it")
	})
}

// WaitISR waits until exactly n replicas of partition 0 of a topic are in sync.
func (c *Cluster) WaitISR(t testing.TB, topic string, n int) {
	t.Helper()
	c.waitPartition(t, topic, fmt.Sprintf("%d replicas in sync", n), func(p kmsg.MetadataResponseTopicPartition) bool {
		return len(p.ISR) == n
	})
}

// ElectUnclean makes the broker the leader of partition 0 of a topic, although it lacks
// records. The other replicas must be down.
func (c *Cluster) ElectUnclean(t testing.TB, topic string, b *Broker) {
	t.Helper()
	const unclean = 1
	wait.For(t, wait.Timeout, "an unclean leader election", func() error {
		req, et := kmsg.NewPtrElectLeadersRequest(), kmsg.NewElectLeadersRequestTopic()
		req.ElectionType, req.TimeoutMillis = unclean, int32(requestTimeout.Milliseconds())
		et.Topic, et.Partitions = topic, []int32{0}
		req.Topics = append(req.Topics, et)
		resp := Request(t, c, "elect a leader of "+topic, req, nil)
		for _, got := range resp.Topics {
			for _, p := range got.Partitions {
				return code(p.ErrorCode)
			}
		}
		return errors.Join(code(resp.ErrorCode), errors.New("no result for the partition"))
	})
	c.waitLeader(t, topic, b)
}

func (c *Cluster) waitLeader(t testing.TB, topic string, b *Broker) {
	t.Helper()
	c.waitPartition(t, topic, fmt.Sprintf("broker %d to lead %s", b.id, topic), func(p kmsg.MetadataResponseTopicPartition) bool {
		return p.Leader == int32(b.id)
	})
}

// waitPartition waits until every broker that is alive reports partition 0 of a topic such
// that ok holds.
func (c *Cluster) waitPartition(t testing.TB, topic, what string, ok func(kmsg.MetadataResponseTopicPartition) bool) {
	t.Helper()
	wait.For(t, wait.Timeout, what, func() error {
		return c.everyBroker(func(ctx context.Context, b kmsg.Requestor) error {
			resp, err := topicMetadata(topic).RequestWith(ctx, b)
			if err != nil {
				return err
			}
			if p := resp.Topics[0].Partitions; len(p) == 0 || !ok(p[0]) {
				return fmt.Errorf("the partitions are %+v", p)
			}
			return nil
		})
	})
}
