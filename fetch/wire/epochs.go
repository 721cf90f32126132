package wire

import (
	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/leader"
)

// Versions of OffsetForLeaderEpoch: those that need no other permission than a fetch.
const (
	minEpochsVersion = 3
	maxEpochsVersion = 4
)

// A TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// An EpochQuery asks a leader where its log ends for an epoch.
type EpochQuery struct {
	TopicPartition
	Current int32        // the epoch that the leader must have; -1 if it is unknown
	Epoch   leader.Epoch // whose end is asked for
}

// An EpochEnd is where a leader's log ends for an epoch.
type EpochEnd struct {
	Of     leader.Epoch // the epoch of the query
	Epoch  leader.Epoch // the largest epoch of the leader's log up to Of; unknown if there is none
	Offset int64        // after the last record of Epoch
	Err    error        // why the leader did not answer for the partition
}

// EpochEnds asks the leader where its log ends for epochs. Of several queries for a partition,
// only the first one is sent. It returns nil if there is none, or if the broker is too old for
// the request.
func (c *Conn) EpochEnds(queries []EpochQuery) (map[TopicPartition]EpochEnd, error) {
	if len(queries) == 0 {
		return nil, nil
	}
	if err := c.prepare(); err != nil {
		return nil, err
	}
	k, ok := c.versions[kmsg.OffsetForLeaderEpoch]
	if !ok || k.MaxVersion < minEpochsVersion || k.MinVersion > maxEpochsVersion || !c.conf.Version.IsAtLeast(sarama.V2_3_0_0) {
		return nil, nil
	}
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.Version, req.ReplicaID = min(maxEpochsVersion, k.MaxVersion), -1
	if !c.conf.Version.IsAtLeast(sarama.V2_8_0_0) {
		req.Version = minEpochsVersion
	}
	ends := make(map[TopicPartition]EpochEnd, len(queries))
	for _, q := range queries {
		if _, twice := ends[q.TopicPartition]; twice {
			continue
		}
		ends[q.TopicPartition] = EpochEnd{Of: q.Epoch, Err: sarama.ErrIncompleteResponse}
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch = q.Partition, q.Current, q.Epoch.Kafka()
		last := len(req.Topics) - 1
		if last < 0 || req.Topics[last].Topic != q.Topic {
			t := kmsg.NewOffsetForLeaderEpochRequestTopic()
			t.Topic = q.Topic
			req.Topics = append(req.Topics, t)
			last++
		}
		req.Topics[last].Partitions = append(req.Topics[last].Partitions, p)
	}
	id, err := c.send(req)
	if err != nil {
		return nil, err
	}
	resp := &kmsg.OffsetForLeaderEpochResponse{Version: req.Version}
	fr, err := c.readResponse(id, resp, nil)
	if err != nil {
		return nil, err
	}
	defer fr.Release()
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			key := TopicPartition{t.Topic, p.Partition}
			e := EpochEnd{Of: ends[key].Of, Epoch: leader.NewEpoch(p.LeaderEpoch), Offset: p.EndOffset}
			if p.ErrorCode != 0 {
				e.Err = sarama.KError(p.ErrorCode)
			}
			ends[key] = e
		}
	}
	return ends, nil
}
