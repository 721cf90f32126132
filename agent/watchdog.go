package agent

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"kcagent/fetch"
)

// A stallError says that a partition stands still and nobody knows why. Kafka
// clients have had faults that nothing showed but this (sarama issues 2219, 2621
// and 3628), and brokers, too; so everything is opened anew.
type stallError struct {
	*partition
	long time.Duration
	look fetch.Look
}

func (e *stallError) Error() string {
	asks := "no request is under way"
	if e.look.InFlight {
		asks = "a request is under way"
	}
	return fmt.Sprintf("%s/%d stands still at offset %d for %s, the log ends at %d, and nothing explains it "+
		"(broker %s last spoke of it at %s, %s): everything is opened anew", e.Topic, e.Partition, e.look.Next, e.long.Round(time.Second),
		e.look.End, cmp.Or(e.look.Broker, "unknown"), e.look.Answered.UTC().Format(time.RFC3339), asks)
}

// A stand is where a partition was last seen to move.
type stand struct {
	next int64
	at   time.Time
}

// watch ends the generation once a partition has stood still for stall_timeout
// although there is something to read, or nobody has said that there is nothing.
func (s *session) watch(ctx context.Context) {
	stands := make(map[*partition]stand, len(s.partitions))
	for {
		limit := s.consumer.spec.Load().StallTimeout
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(limit/8, 10*time.Second)): // it may be shortened
		}
		for _, p := range s.partitions {
			if err := p.stands(stands, p.sub.Look(), limit, time.Now()); err != nil {
				s.stats.stalls.Add(1)
				s.cluster.Reconnect()
				s.abandon(err)
				return
			}
		}
	}
}

// stands looks whether p moved, or need not.
func (p *partition) stands(stands map[*partition]stand, look fetch.Look, limit time.Duration, now time.Time) error {
	was, seen := stands[p]
	nothing := look.Next >= 0 && look.End >= 0 && look.Next >= look.End && now.Sub(look.Answered) < limit
	switch {
	case !look.Waiting || nothing || !seen || was.next != look.Next:
		stands[p] = stand{look.Next, now}
	case now.Sub(was.at) >= limit:
		return &stallError{p, now.Sub(was.at), look}
	}
	return nil
}
