package consumer

import (
	"time"

	"kcagent/agent/kafka"
	"kcagent/agent/lag"
	"kcagent/agent/stats"
	"kcagent/sink"
)

// The labels of every goroutine of a consumer: inherited from its run, or set by a task.
const (
	LabelConsumer = "consumer"
	LabelID       = "consumer_id"
)

// A Snapshot is the state of a consumer, and what it has counted, at one moment. The content
// of its slices and maps is shared and must not be changed.
type Snapshot struct {
	ID      string // of this life of the consumer: a replacement has another one
	Name    string
	Created time.Time

	State    State
	Since    time.Time     // of State
	Started  bool          // it has left STARTING since it was last started
	Fault    string        // why it is in ERROR, or what its start waits for; "" for neither
	EndError error         // why its last run did not end cleanly; nil if it did
	Errors   []RecentError // newest first

	MemberID      string // "" while it is not a member of its group
	Generation    int32
	Topics        []string            // subscribed to
	Resubscribing bool                // it was asked for other topics than its generation reads
	Partitions    []PartitionSnapshot // assigned, sorted by topic and number
	Lag           lag.Lag             // over Partitions

	Unpublished sink.Objects // what the sink holds for objects that are not published yet; zero while the consumer does not run

	stats.Counters
}

// A PartitionSnapshot is one assigned partition.
type PartitionSnapshot struct {
	Topic           string
	Partition       int32
	NextOffset      int64 // after what the sink accepted; -1 if unknown
	CommittedOffset int64 // -1 while the group has committed nothing
	HighWaterMark   int64 // 0 if unknown
	Lag             lag.Lag
}

// Snapshot may be called by any goroutine. It waits for nothing but the mutexes of
// partitions, which are held for a few instructions, and for the Objects of the sink.
func (c *Consumer) Snapshot() Snapshot {
	s := c.Brief()
	partitions := c.published.Load().Partitions
	if len(partitions) > 0 {
		s.Partitions = make([]PartitionSnapshot, len(partitions))
	}
	now, lags := time.Now(), make([]lag.Lag, len(partitions))
	for i, p := range partitions {
		lags[i] = p.Lag(now)
		s.Partitions[i] = PartitionSnapshot{
			Topic: p.Topic, Partition: p.Partition, NextOffset: p.NextOffset(),
			CommittedOffset: p.CommittedOffset(), HighWaterMark: p.HighWaterMark(), Lag: lags[i],
		}
	}
	s.Lag = c.sumLag(lags)
	s.Unpublished = c.SinkObjects()
	return s
}

// SinkObjects is Unpublished of Snapshot. It holds no lock while it calls the sink.
func (c *Consumer) SinkObjects() sink.Objects {
	if snk := c.sink.Load(); snk != nil {
		return (*snk).Objects()
	}
	return sink.Objects{}
}

// Brief is Snapshot without Partitions, Lag and Unpublished. It costs the same for any number of partitions.
func (c *Consumer) Brief() Snapshot {
	v := c.published.Load()
	return Snapshot{
		ID: c.id, Name: c.name, Created: c.created,
		State: v.State, Since: v.Since, Started: v.Started, Fault: v.Fault, EndError: v.EndError, Errors: v.Errors,
		MemberID: v.MemberID, Generation: v.Generation, Topics: v.Topics,
		Resubscribing: v.StartedWith != nil && !kafka.SameTopics(v.StartedWith, c.spec.Load()),
		Counters:      c.stats.Counters(),
	}
}

// TotalLag is Lag of Snapshot.
func (c *Consumer) TotalLag() lag.Lag {
	partitions := c.published.Load().Partitions
	now, lags := time.Now(), make([]lag.Lag, len(partitions))
	for i, p := range partitions {
		lags[i] = p.Lag(now)
	}
	return c.sumLag(lags)
}

func (c *Consumer) sumLag(partitions []lag.Lag) lag.Lag {
	sum := lag.Sum(partitions)
	sum.CatchUp = c.trend.CatchUp(sum.Records)
	return sum
}
