package agent

import (
	"context"
	"fmt"
	"time"

	"kcagent/fetch"
)

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
		if err := s.checkPartitions(stands, limit); err != nil {
			s.abandon(err)
			return
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
		s.report(originGroup, fmt.Errorf("stay in group %s: %w", s.spec.Group,
			fetch.StrangerError(fmt.Sprintf("its coordinator at %s has not responded within %s", late[0].RemoteAddr(), answerTime))))
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
