package generation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"kcagent/fetch"
)

const (
	// watchInterval is how often the watchdog checks the partitions, at most.
	watchInterval = 2500 * time.Millisecond
	// responseTimeout is how long the coordinator may take for a response while a
	// generation lasts. It has no reason to delay one then.
	responseTimeout = 10 * time.Second
)

// watch is the watchdog. It reports why partitions cannot be fetched, and ends the
// generation if one of them makes no progress without a known reason. It runs in a
// goroutine of its own that never blocks, so that it can report whatever does.
func (g *Generation) watch(ctx context.Context) {
	progress := make(map[*Partition]lastProgress, len(g.partitions))
	var unresponsive time.Time // since when the coordinator does not respond
	for {
		limit := g.env.Spec.Load().StallTimeout
		select {
		case <-ctx.Done():
			return
		case <-g.fetchChanged:
			g.reportFetchFaults()
			continue
		case <-time.After(min(limit/8, watchInterval)):
		}
		unresponsive = g.checkCoordinator(unresponsive)
		if topic, deleted := g.deletedTopic(); deleted {
			g.env.Log.Warn("topic was deleted", "topic", topic)
			g.abandon(ErrTopicsChanged)
			return
		}
		if err := g.checkPartitions(progress, limit); err != nil {
			g.abandon(err)
			return
		}
	}
}

// checkCoordinator reports that the coordinator does not respond, and replaces its
// connection. Otherwise sarama would wait for half a minute, as long as a join may take, and
// longer on each new connection. It takes and returns since when the coordinator has not
// responded.
func (g *Generation) checkCoordinator(since time.Time) time.Time {
	addr, received := g.env.Client.DropOverdue(responseTimeout)
	switch {
	case addr != nil:
		if since.IsZero() {
			since = time.Now()
		}
		g.env.Observer.Report(OriginGroup, fmt.Errorf("stay in group %s: %w", g.StartedWith.Group,
			fetch.StrangerError(fmt.Sprintf("its coordinator at %s has not responded within %s", addr, responseTimeout))))
	case !since.IsZero() && received.After(since):
		g.env.Observer.Report(OriginGroup, nil)
		return time.Time{}
	}
	return since
}

// deletedTopic returns a topic of the generation that does not exist any more, as far as
// the shared metadata of the cluster says. sarama checks that only for the leader of a
// group.
func (g *Generation) deletedTopic() (topic string, ok bool) {
	for _, t := range g.Topics {
		if _, err := g.env.Cluster.Partitions(t); errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			return t, true
		}
	}
	return "", false
}
