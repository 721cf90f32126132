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

// How often the watchdog looks, and how long a coordinator may owe an answer
// while a generation lasts, when it has no reason to hold one back.
const (
	watchEvery = 2500 * time.Millisecond
	answerTime = 10 * time.Second
)

// watch tells what keeps partitions from being fetched, and looks whether the
// coordinator answers and the partitions move. It waits for nobody, so that it
// can tell of those that do.
func (s *session) watch(ctx context.Context) {
	stands := make(map[*partition]stand, len(s.partitions))
	deaf := time.Time{} // since when the coordinator does not answer
	for {
		limit := s.consumer.spec.Load().StallTimeout
		select {
		case <-ctx.Done():
			return
		case <-s.trouble:
			s.reportFetches()
			continue
		case <-time.After(min(limit/8, watchEvery)):
		}
		deaf = s.watchCoordinator(deaf)
		if topic, gone := s.vanished(); gone {
			s.log.Warn("a topic is not there any more", "topic", topic)
			s.abandon(errResubscribe)
			return
		}
		for _, p := range s.partitions {
			sub := p.sub.Load()
			if sub == nil {
				continue
			}
			if err := p.stands(stands, sub.Look(), limit, time.Now()); err != nil {
				s.stats.stalls.Add(1)
				s.cluster.Reconnect()
				s.abandon(err)
				return
			}
		}
	}
}

// watchCoordinator cuts a connection on which an answer is overdue. sarama waits
// for as long as a join may take, half a minute, and longer than that on each new
// connection; so a broker that has become a black hole is told of, and another
// coordinator is asked for, much sooner.
func (s *session) watchCoordinator(deaf time.Time) time.Time {
	late, heard := s.net.overdue(answerTime)
	switch {
	case len(late) > 0:
		if deaf.IsZero() {
			deaf = time.Now()
		}
		s.report(originGroup, fmt.Errorf("keep up with group %s: its coordinator at %s has not answered for %s",
			s.spec.Group, late[0].RemoteAddr(), time.Since(deaf.Add(-answerTime)).Round(time.Second)))
		s.client.forget() // first: who is cut off looks for the coordinator at once
		for _, c := range late {
			_ = c.Close()
		}
	case !deaf.IsZero() && heard.After(deaf):
		s.report(originGroup, nil)
		return time.Time{}
	}
	return deaf
}

// stands looks whether p moved, or need not.
func (p *partition) stands(stands map[*partition]stand, look fetch.Look, limit time.Duration, now time.Time) error {
	was, seen := stands[p]
	if look.Progress.After(was.at) {
		was.at = look.Progress
		stands[p] = was
	}
	nothing := look.Next >= 0 && look.End >= 0 && look.Next >= look.End && now.Sub(look.Answered) < limit
	switch {
	case !look.Waiting || nothing || !seen || was.next != look.Next:
		stands[p] = stand{look.Next, now}
	case now.Sub(was.at) >= limit:
		return &stallError{p, now.Sub(was.at), look}
	}
	return nil
}
