package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"kcagent/sink"
)

// drainErrors hears what sarama reports between the calls: above all fetches
// that fail. sarama retries them by itself and does not tell when they work
// again, so each partition that fails is asked for until it answers.
func (m *member) drainErrors(ctx context.Context) {
	failing := make(map[sink.TopicPartition]bool)
	healed := make(chan sink.TopicPartition)
	for errs := m.group.Errors(); ; {
		select {
		case err, ok := <-errs:
			if !ok {
				errs = nil
				if len(failing) == 0 {
					return
				}
				continue
			}
			var ce *sarama.ConsumerError
			if !errors.As(err, &ce) || ce.Partition < 0 {
				m.log.Debug("sarama reports an error", "error", err)
				continue
			}
			tp := sink.TopicPartition{Topic: ce.Topic, Partition: ce.Partition}
			m.report(fetchOrigin(tp), fmt.Errorf("fetch %s/%d: %w", ce.Topic, ce.Partition, ce.Err))
			if !failing[tp] {
				failing[tp] = true
				m.helpers.Go(func() { m.awaitPartition(ctx, tp, healed) })
			}
		case tp := <-healed:
			delete(failing, tp)
			m.report(fetchOrigin(tp), nil)
			if errs == nil && len(failing) == 0 {
				return
			}
		}
	}
}

// awaitPartition asks for the end offset until the leader answers or ctx ends.
func (m *member) awaitPartition(ctx context.Context, tp sink.TopicPartition, healed chan<- sink.TopicPartition) {
	var wait backoff
	for wait.wait(ctx) {
		if _, err := m.client.GetOffset(tp.Topic, tp.Partition, sarama.OffsetNewest); err == nil {
			break
		}
	}
	healed <- tp
}

func fetchOrigin(tp sink.TopicPartition) string {
	return fmt.Sprintf("fetch %s/%d", tp.Topic, tp.Partition)
}
