package agent

import (
	"fmt"

	"github.com/IBM/sarama"

	"kcagent/leader"
	"kcagent/sink"
)

// groupOffsets reads what a group has committed from its coordinator.
type groupOffsets struct {
	client *groupClient
	group  string
}

// fetch returns the committed offsets of the given partitions.
func (o groupOffsets) fetch(claims map[string][]int32) (map[sink.TopicPartition]committedOffset, error) {
	offsets := make(map[sink.TopicPartition]committedOffset)
	if len(claims) == 0 {
		return offsets, nil
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
				return nil, fmt.Errorf("the response lacks %s/%d", topic, id)
			case block.Err != sarama.ErrNoError:
				return nil, block.Err
			}
			c := committedOffset{offset: block.Offset, epoch: leader.NewEpoch(block.LeaderEpoch)}
			c.meta, c.byAgent = parseMetadata(block.Metadata)
			offsets[sink.TopicPartition{Topic: topic, Partition: id}] = c
		}
	}
	return offsets, nil
}

// fetchAll returns what the group has committed of all topics, and adds the topics that
// the commits await to b.
func (o groupOffsets) fetchAll(b *partitionBaseline) (map[string]committedTopic, error) {
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
	all := make(map[string]committedTopic)
	for topic, partitions := range blocks {
		for id, block := range partitions {
			if block.Offset < 0 {
				continue
			}
			t, known := all[topic]
			if !known {
				t = committedTopic{last: -1, initial: -1}
			}
			t.last = max(t.last, id)
			if m, ok := parseMetadata(block.Metadata); ok {
				b.await(m)
				if m.partitions >= 0 && (t.initial < 0 || m.partitions < t.initial) {
					t.initial = m.partitions
				}
			}
			all[topic] = t
		}
	}
	return all, nil
}

// request asks for the committed offsets of the given partitions; of all, if claims is nil.
func (o groupOffsets) request(claims map[string][]int32) (*sarama.OffsetFetchResponse, error) {
	coordinator, err := o.client.Coordinator(o.group)
	if err != nil {
		return nil, err
	}
	return coordinator.FetchOffset(sarama.NewOffsetFetchRequest(o.client.Config().Version, o.group, claims))
}
