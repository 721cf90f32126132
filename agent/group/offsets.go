package group

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"kcagent/agent/offsets"
	"kcagent/leader"
	"kcagent/sink"
)

// Offsets reads what a group has committed from its coordinator.
type Offsets struct {
	Client *Client
	Group  string
}

// Fetch returns the committed offsets of the given partitions.
func (o Offsets) Fetch(claims map[string][]int32) (map[sink.TopicPartition]offsets.Committed, error) {
	fetched := make(map[sink.TopicPartition]offsets.Committed)
	if len(claims) == 0 {
		return fetched, nil
	}
	resp, err := o.request(claims)
	if err != nil {
		return nil, err
	}
	for topic, ids := range claims {
		for _, id := range ids {
			block := resp.GetBlock(topic, id)
			switch {
			case block == nil && resp.GroupError() != sarama.ErrNoError:
				return nil, resp.GroupError()
			case block == nil:
				return nil, fmt.Errorf("no result for %s/%d in the response", topic, id)
			case block.Err != sarama.ErrNoError:
				return nil, block.Err
			}
			c := offsets.Committed{Offset: block.Offset, Epoch: leader.NewEpoch(block.LeaderEpoch)}
			c.Meta, c.ByAgent = offsets.ParseMetadata(block.Metadata)
			fetched[sink.TopicPartition{Topic: topic, Partition: id}] = c
		}
	}
	return fetched, nil
}

// FetchAll returns what the group has committed of all topics, and adds the topics that
// the commits await to b.
func (o Offsets) FetchAll(b *offsets.Baseline) (map[string]offsets.CommittedTopic, error) {
	resp, err := o.request(nil)
	if err != nil {
		return nil, err
	}
	if code := resp.GroupError(); code != sarama.ErrNoError {
		return nil, code
	}
	blocks := resp.Blocks
	if len(resp.Groups) > 0 { // Kafka 3.0 and newer
		blocks = resp.Groups[0].Blocks
	}
	all := make(map[string]offsets.CommittedTopic)
	for topic, partitions := range blocks {
		for id, block := range partitions {
			if block.Offset < 0 {
				continue
			}
			t, known := all[topic]
			if !known {
				t = offsets.CommittedTopic{Last: -1, Initial: -1}
			}
			t.Last = max(t.Last, id)
			if m, ok := offsets.ParseMetadata(block.Metadata); ok {
				b.Await(m)
				if m.Partitions >= 0 && (t.Initial < 0 || m.Partitions < t.Initial) {
					t.Initial = m.Partitions
				}
			}
			all[topic] = t
		}
	}
	return all, nil
}

// stableVersion is the version of requests from which on the coordinator can be asked to respond
// only after it has applied commits in progress.
const stableVersion = 7

// request asks for the committed offsets of the given partitions; of all, if claims is nil.
func (o Offsets) request(claims map[string][]int32) (*sarama.OffsetFetchResponse, error) {
	coordinator, err := o.Client.Coordinator(o.Group)
	if err != nil {
		return nil, err
	}
	req := sarama.NewOffsetFetchRequest(o.Client.Config().Version, o.Group, claims)
	req.RequireStable = req.Version >= stableVersion
	resp, err := coordinator.FetchOffset(req)
	if errors.As(err, new(sarama.PacketEncodingError)) && req.RequireStable { // the broker is older than Kafka 2.5
		req.RequireStable = false
		return coordinator.FetchOffset(req)
	}
	return resp, err
}
