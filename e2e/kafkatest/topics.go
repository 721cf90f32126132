package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/e2e/wait"
)

// CreateTopic creates a topic with one replica per partition and returns when every
// broker has it. With -1 partitions, the topic has num.partitions of the brokers. config
// holds settings of the topic, name=value.
func (c *Cluster) CreateTopic(t testing.TB, topic string, partitions int32, config ...string) {
	t.Helper()
	c.create(t, topic, partitions, 1, nil, config)
}

// CreateReplicated is CreateTopic with a replica on each broker.
func (c *Cluster) CreateReplicated(t testing.TB, topic string, partitions int32, config ...string) {
	t.Helper()
	c.create(t, topic, partitions, int16(len(c.Brokers)), nil, config)
}

// CreateAssigned is CreateTopic with the ids of the brokers that have a replica, for each
// partition. The first one leads.
func (c *Cluster) CreateAssigned(t testing.TB, topic string, replicas [][]int32, config ...string) {
	t.Helper()
	c.create(t, topic, -1, -1, replicas, config)
}

// CreateOn creates a topic of one partition with a replica on each of the brokers. The
// first one leads it.
func (c *Cluster) CreateOn(t testing.TB, topic string, brokers ...*Broker) {
	t.Helper()
	var replicas []int32
	for _, b := range brokers {
		replicas = append(replicas, int32(b.id))
	}
	c.CreateAssigned(t, topic, [][]int32{replicas})
	c.waitLeader(t, topic, brokers[0])
}

func (c *Cluster) create(t testing.TB, topic string, partitions int32, factor int16, replicas [][]int32, config []string) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	want := kmsg.NewCreateTopicsRequestTopic()
	want.Topic, want.NumPartitions, want.ReplicationFactor = topic, partitions, factor
	for p, brokers := range replicas {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = int32(p), brokers
		want.ReplicaAssignment = append(want.ReplicaAssignment, a)
	}
	for _, line := range config {
		name, value, _ := strings.Cut(line, "=")
		want.Configs = append(want.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: name, Value: &value})
	}
	req.Topics, req.TimeoutMillis = append(req.Topics, want), int32(requestTimeout.Milliseconds())
	retried := false
	Request(t, c, "create topic "+topic, req, func(r *kmsg.CreateTopicsResponse) error {
		err := code(r.Topics[0].ErrorCode)
		if retried && errors.Is(err, kerr.TopicAlreadyExists) {
			return nil // the request before, of which the response was lost
		}
		retried = true
		return err
	})
	c.waitTopic(t, topic, max(1, partitions))
}

// DeleteTopic deletes a topic and returns when no broker has it.
func (c *Cluster) DeleteTopic(t testing.TB, topic string) {
	t.Helper()
	req := kmsg.NewPtrDeleteTopicsRequest()
	name := kmsg.NewDeleteTopicsRequestTopic()
	name.Topic = kmsg.StringPtr(topic)
	req.Topics, req.TopicNames = append(req.Topics, name), []string{topic}
	req.TimeoutMillis = int32(requestTimeout.Milliseconds())
	retried := false
	Request(t, c, "delete topic "+topic, req, func(r *kmsg.DeleteTopicsResponse) error {
		err := code(r.Topics[0].ErrorCode)
		if retried && errors.Is(err, kerr.UnknownTopicOrPartition) {
			return nil // the request before, of which the response was lost
		}
		retried = true
		return err
	})
	wait.For(t, wait.Timeout, "topic "+topic+" to be deleted on every broker", func() error {
		return c.everyBroker(func(ctx context.Context, b kmsg.Requestor) error {
			resp, err := topicMetadata(topic).RequestWith(ctx, b)
			if err == nil && code(resp.Topics[0].ErrorCode) != kerr.UnknownTopicOrPartition {
				err = errors.New("it has the topic")
			}
			return err
		})
	})
	c.client.PurgeTopicsFromClient(topic)
}

// AddPartitions adds partitions to a topic until it has this many, and returns when every
// broker has them.
func (c *Cluster) AddPartitions(t testing.TB, topic string, partitions int32) {
	t.Helper()
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.TimeoutMillis = int32(requestTimeout.Milliseconds())
	want := kmsg.NewCreatePartitionsRequestTopic()
	want.Topic, want.Count = topic, partitions
	req.Topics = append(req.Topics, want)
	Request(t, c, "add partitions to "+topic, req, func(r *kmsg.CreatePartitionsResponse) error { return code(r.Topics[0].ErrorCode) })
	c.waitTopic(t, topic, partitions)
	if known, _, _ := c.client.PartitionLeader(topic, 0); known < 0 {
		return // the client requests the metadata when it needs them
	}
	wait.For(t, requestTimeout, "the client to know the new partitions", func() error {
		if leader, _, err := c.client.PartitionLeader(topic, partitions-1); leader >= 0 || err != nil {
			return err
		}
		c.client.ForceMetadataRefresh()
		return errors.New("it does not")
	})
}

// waitTopic waits until every broker has the topic with at least this many partitions and
// knows a leader of each.
func (c *Cluster) waitTopic(t testing.TB, topic string, partitions int32) {
	t.Helper()
	wait.For(t, wait.Timeout, "topic "+topic+" on every broker", func() error {
		return c.everyBroker(func(ctx context.Context, b kmsg.Requestor) error {
			resp, err := topicMetadata(topic).RequestWith(ctx, b)
			if err != nil {
				return err
			}
			found := resp.Topics[0]
			if err := code(found.ErrorCode); err != nil {
				return err
			}
			if n := len(found.Partitions); n < int(partitions) {
				return fmt.Errorf("it knows %d of %d partitions", n, partitions)
			}
			for _, p := range found.Partitions {
				if err := code(p.ErrorCode); err != nil || p.Leader < 0 {
					return fmt.Errorf("partition %d has no leader: %v", p.Partition, err)
				}
			}
			return nil
		})
	})
}

// DeleteRecords deletes the records before offset, as retention does.
func (c *Cluster) DeleteRecords(t testing.TB, topic string, partition int32, offset int64) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = topic
	rt.Partitions = []kmsg.DeleteRecordsRequestTopicPartition{{Partition: partition, Offset: offset}}
	req.Topics, req.TimeoutMillis = append(req.Topics, rt), int32(requestTimeout.Milliseconds())
	Request(t, c, "delete records of "+topic, req, func(r *kmsg.DeleteRecordsResponse) error {
		var errs []error
		for _, got := range r.Topics {
			for _, p := range got.Partitions {
				errs = append(errs, code(p.ErrorCode))
			}
		}
		return first(errs)
	})
}

// EndOffsets returns the offsets after the last record, by partition.
func (c *Cluster) EndOffsets(t testing.TB, topic string) map[int32]int64 {
	t.Helper()
	found := Request(t, c, "metadata of "+topic, topicMetadata(topic), func(r *kmsg.MetadataResponse) error {
		return code(r.Topics[0].ErrorCode)
	}).Topics[0]
	req, want := kmsg.NewPtrListOffsetsRequest(), kmsg.NewListOffsetsRequestTopic()
	want.Topic = topic
	for _, p := range found.Partitions {
		part := kmsg.NewListOffsetsRequestTopicPartition()
		part.Partition, part.Timestamp = p.Partition, -1 // the end
		want.Partitions = append(want.Partitions, part)
	}
	req.Topics = append(req.Topics, want)
	ends := make(map[int32]int64)
	Request(t, c, "end offsets of "+topic, req, func(r *kmsg.ListOffsetsResponse) error {
		var errs []error
		for _, got := range r.Topics {
			for _, p := range got.Partitions {
				errs = append(errs, code(p.ErrorCode))
				ends[p.Partition] = p.Offset
			}
		}
		return first(errs)
	})
	return ends
}

// first returns the first error that is not nil.
func first(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
