package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/e2e/wait"
)

// CreateOn creates a topic of one partition with a replica on each of the brokers. The
// first leads it.
func (c *Cluster) CreateOn(t testing.TB, topic string, brokers ...*Broker) {
	t.Helper()
	var replicas []int32
	for _, b := range brokers {
		replicas = append(replicas, int32(b.id))
	}
	c.CreateAssigned(t, topic, [][]int32{replicas})
	c.waitLeader(t, topic, brokers[0])
}

// StartBroker starts a broker that is down, and returns when the cluster knows it.
func (c *Cluster) StartBroker(t testing.TB, b *Broker) {
	t.Helper()
	if err := b.launch(); err != nil {
		t.Fatal(err)
	}
	wait.For(t, readyTimeout, fmt.Sprintf("broker %d", b.id), func() error {
		for _, known := range c.metadata(t).Brokers {
			if known.NodeID == int32(b.id) {
				return nil
			}
		}
		return errors.New("the metadata does not name it")
	})
}

// WaitISR waits until so many replicas of partition 0 of a topic are in sync.
func (c *Cluster) WaitISR(t testing.TB, topic string, n int) {
	t.Helper()
	wait.For(t, wait.Timeout, fmt.Sprintf("%d replicas in sync", n), func() error {
		if isr := c.metadata(t, topic).Topics[0].Partitions[0].ISR; len(isr) != n {
			return fmt.Errorf("they are %v", isr)
		}
		return nil
	})
}

// ElectUnclean has partition 0 of a topic led by the broker, although it lacks records.
// The other replicas must be down.
func (c *Cluster) ElectUnclean(t testing.TB, topic string, b *Broker) {
	t.Helper()
	const unclean = 1
	wait.For(t, wait.Timeout, "an unclean leader election", func() error {
		req, et := kmsg.NewPtrElectLeadersRequest(), kmsg.NewElectLeadersRequestTopic()
		req.ElectionType, req.TimeoutMillis = unclean, int32(requestTimeout.Milliseconds())
		et.Topic, et.Partitions = topic, []int32{0}
		req.Topics = append(req.Topics, et)
		resp := ask(t, c, req)
		for _, got := range resp.Topics {
			for _, p := range got.Partitions {
				return kerr.ErrorForCode(p.ErrorCode)
			}
		}
		return errors.Join(kerr.ErrorForCode(resp.ErrorCode), errors.New("no answer for the partition"))
	})
	c.waitLeader(t, topic, b)
}

func (c *Cluster) waitLeader(t testing.TB, topic string, b *Broker) {
	t.Helper()
	wait.For(t, wait.Timeout, fmt.Sprintf("broker %d to lead %s", b.id, topic), func() error {
		p := c.metadata(t, topic).Topics[0].Partitions
		if len(p) == 0 || p[0].Leader != int32(b.id) {
			return fmt.Errorf("the partitions are %+v", p)
		}
		return nil
	})
}

// metadata asks any broker that is up.
func (c *Cluster) metadata(t testing.TB, topics ...string) *kmsg.MetadataResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	resp, err := topicMetadata(topics...).RequestWith(ctx, c.client)
	if err != nil {
		t.Fatalf("ask kafka: %v", err)
	}
	return resp
}
