package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/e2e/wait"
)

// A request is what kmsg makes of every kind of request that returns R.
type request[R any] interface {
	RequestWith(ctx context.Context, r kmsg.Requestor) (R, error)
}

func ask[R any](t testing.TB, c *Cluster, req request[R]) R {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	for {
		resp, err := req.RequestWith(ctx, c.client)
		switch {
		case errors.Is(err, kerr.CoordinatorNotAvailable) && ctx.Err() == nil:
			time.Sleep(100 * time.Millisecond) // a new cluster is creating the topic of the committed offsets
		case err != nil:
			t.Fatalf("ask kafka: %v", err)
		default:
			return resp
		}
	}
}

func check(t testing.TB, what string, code int16) {
	t.Helper()
	if err := kerr.ErrorForCode(code); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// CreateTopic creates a topic with one replica per partition and returns when every
// broker has it. -1 partitions are as many as the brokers' num.partitions. config
// is the topic's own, name=value.
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
	req.Topics = append(req.Topics, want)
	for _, got := range ask(t, c, req).Topics {
		check(t, "create topic "+topic, got.ErrorCode)
	}
	wait.For(t, wait.Timeout, "topic "+topic+" on every broker", func() error { return c.known(topic) })
}

// known returns nil if each broker of the cluster reports the topic with a leader for each
// partition. Brokers learn of a new topic one after the other, and a request goes to any of
// them: if only one was asked, the next one may answer that the topic does not exist.
func (c *Cluster) known(topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	all, err := topicMetadata().RequestWith(ctx, c.client)
	if err != nil {
		return err
	}
	for _, b := range all.Brokers {
		resp, err := topicMetadata(topic).RequestWith(ctx, c.client.Broker(int(b.NodeID)))
		if err != nil {
			return fmt.Errorf("broker %d: %w", b.NodeID, err)
		}
		if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
			return fmt.Errorf("broker %d: %w", b.NodeID, err)
		}
		for _, p := range resp.Topics[0].Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil || p.Leader < 0 {
				return fmt.Errorf("broker %d: partition %d has no leader: %v", b.NodeID, p.Partition, err)
			}
		}
	}
	return nil
}

// topicMetadata requests the metadata of topics, or of the brokers alone.
func topicMetadata(topics ...string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // nil requests all topics
	for _, topic := range topics {
		name := kmsg.NewMetadataRequestTopic()
		name.Topic = kmsg.StringPtr(topic)
		req.Topics = append(req.Topics, name)
	}
	return req
}

// DeleteRecords deletes what is before offset, as retention does.
func (c *Cluster) DeleteRecords(t testing.TB, topic string, partition int32, offset int64) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = topic
	rt.Partitions = []kmsg.DeleteRecordsRequestTopicPartition{{Partition: partition, Offset: offset}}
	req.Topics, req.TimeoutMillis = append(req.Topics, rt), int32(requestTimeout.Milliseconds())
	for _, got := range ask(t, c, req).Topics {
		for _, p := range got.Partitions {
			check(t, "delete records of "+topic, p.ErrorCode)
		}
	}
}

// DeleteTopic deletes a topic.
func (c *Cluster) DeleteTopic(t testing.TB, topic string) {
	t.Helper()
	req := kmsg.NewPtrDeleteTopicsRequest()
	name := kmsg.NewDeleteTopicsRequestTopic()
	name.Topic = kmsg.StringPtr(topic)
	req.Topics, req.TopicNames = append(req.Topics, name), []string{topic}
	for _, got := range ask(t, c, req).Topics {
		check(t, "delete topic "+topic, got.ErrorCode)
	}
	c.client.PurgeTopicsFromClient(topic)
}

// EndOffsets are the offsets after the last record, by partition.
func (c *Cluster) EndOffsets(t testing.TB, topic string) map[int32]int64 {
	t.Helper()
	ends := make(map[int32]int64)
	// After a restart or an election, a broker may not know yet that the topic exists or
	// that it leads a partition.
	wait.For(t, wait.Timeout, "end offsets of "+topic, func() error {
		found := ask(t, c, topicMetadata(topic)).Topics[0]
		if err := kerr.ErrorForCode(found.ErrorCode); err != nil {
			return err
		}
		req, want := kmsg.NewPtrListOffsetsRequest(), kmsg.NewListOffsetsRequestTopic()
		want.Topic = topic
		for _, p := range found.Partitions {
			part := kmsg.NewListOffsetsRequestTopicPartition()
			part.Partition, part.Timestamp = p.Partition, -1 // the end
			want.Partitions = append(want.Partitions, part)
		}
		req.Topics = append(req.Topics, want)
		for _, got := range ask(t, c, req).Topics {
			for _, p := range got.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return fmt.Errorf("partition %d: %w", p.Partition, err)
				}
				ends[p.Partition] = p.Offset
			}
		}
		return nil
	})
	return ends
}

// Committed are a group's committed offsets in a topic, by partition; a
// partition without one is left out.
func (c *Cluster) Committed(t testing.TB, group, topic string) map[int32]int64 {
	t.Helper()
	req, g := kmsg.NewPtrOffsetFetchRequest(), kmsg.NewOffsetFetchRequestGroup()
	g.Group = group // no topics: all there are
	req.Groups = append(req.Groups, g)
	committed := make(map[int32]int64)
	for _, got := range ask(t, c, req).Groups {
		check(t, "committed offsets of "+group, got.ErrorCode)
		for _, tp := range got.Topics {
			for _, p := range tp.Partitions {
				check(t, "committed offset of "+group, p.ErrorCode)
				if tp.Topic == topic && p.Offset >= 0 {
					committed[p.Partition] = p.Offset
				}
			}
		}
	}
	return committed
}

// ResetOffsets moves the committed offsets of a group without members, as
// kafka-consumer-groups --reset-offsets does.
func (c *Cluster) ResetOffsets(t testing.TB, group, topic string, offsets map[int32]int64) {
	t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	moved := kmsg.NewOffsetCommitRequestTopic()
	moved.Topic = topic
	for p, offset := range offsets {
		block := kmsg.NewOffsetCommitRequestTopicPartition()
		block.Partition, block.Offset, block.Metadata = p, offset, kmsg.StringPtr("")
		moved.Partitions = append(moved.Partitions, block)
	}
	req.Topics = append(req.Topics, moved)
	for _, got := range ask(t, c, req).Topics {
		for _, p := range got.Partitions {
			check(t, "reset offsets of "+group, p.ErrorCode)
		}
	}
}

// A Group is a consumer group as its coordinator sees it.
type Group struct {
	State   string   // such as Stable or Empty; Dead if there is none
	Members []string // member ids
}

// Group describes a consumer group.
func (c *Cluster) Group(t testing.TB, group string) Group {
	t.Helper()
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{group}
	var g Group
	for _, got := range ask(t, c, req).Groups {
		if kerr.ErrorForCode(got.ErrorCode) == kerr.GroupIDNotFound {
			return Group{State: "Dead"}
		}
		check(t, "describe group "+group, got.ErrorCode)
		g.State = got.State
		for _, m := range got.Members {
			g.Members = append(g.Members, m.MemberID)
		}
	}
	return g
}

// Evict removes every member from a group, as the end of their sessions would:
// the members of a process that was killed are else waited for.
func (c *Cluster) Evict(t testing.TB, group string) {
	t.Helper()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = group
	for _, id := range c.Group(t, group).Members {
		m := kmsg.NewLeaveGroupRequestMember()
		m.MemberID = id
		req.Members = append(req.Members, m)
	}
	if len(req.Members) == 0 {
		return
	}
	resp := ask(t, c, req)
	check(t, "evict members of "+group, resp.ErrorCode)
	for _, m := range resp.Members {
		check(t, "evict "+m.MemberID, m.ErrorCode)
	}
}

// AddPartitions has a topic have this many.
func (c *Cluster) AddPartitions(t testing.TB, topic string, partitions int32) {
	t.Helper()
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.TimeoutMillis = int32(requestTimeout.Milliseconds())
	want := kmsg.NewCreatePartitionsRequestTopic()
	want.Topic, want.Count = topic, partitions
	req.Topics = append(req.Topics, want)
	for _, r := range ask(t, c, req).Topics {
		check(t, "add partitions to "+r.Topic, r.ErrorCode)
	}
	if known, _, _ := c.client.PartitionLeader(topic, 0); known < 0 {
		return // it will ask when it needs to
	}
	wait.For(t, requestTimeout, "the client to know the new partitions", func() error {
		if leader, _, err := c.client.PartitionLeader(topic, partitions-1); leader >= 0 || err != nil {
			return err
		}
		c.client.ForceMetadataRefresh()
		return errors.New("it does not")
	})
}

// Coordinator is the id of the broker that coordinates a group.
func (c *Cluster) Coordinator(t testing.TB, group string) int {
	t.Helper()
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey, req.CoordinatorKeys = group, []string{group}
	var id int32
	wait.For(t, requestTimeout, "a coordinator of "+group, func() error {
		for _, r := range ask(t, c, req).Coordinators {
			id = r.NodeID
			return kerr.ErrorForCode(r.ErrorCode)
		}
		return errors.New("none is named")
	})
	return int(id)
}
