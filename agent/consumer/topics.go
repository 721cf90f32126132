package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"kcagent/agent/generation"
	"kcagent/agent/kafka"
	"kcagent/config"
	"kcagent/fetch"
	"kcagent/logkey"
)

// topics returns the topics that spec subscribes to now: the listed ones, or the topics of
// the cluster that match the pattern. The list of the cluster's topics may be as old as listAge, and the metadata of each
// topic as old as topicAge. A topic that cannot be used is left out, so that the others are
// read, and absent says why. An error says that no topic can be used.
func (m *member) topics(ctx context.Context, spec *config.Consumer, listAge, topicAge time.Duration) (topics []string, absent []error, err error) {
	wanted := spec.Topics
	if spec.TopicsRegex != "" {
		all, err := m.cluster.Topics(ctx, listAge)
		if err != nil {
			return nil, nil, fmt.Errorf("list topics: %w", err)
		}
		if wanted, err = kafka.Matching(all, spec.TopicsRegex); err != nil {
			return nil, nil, err
		}
	}
	err = m.cluster.RefreshSince(ctx, wanted, time.Now().Add(-topicAge))
	if err == nil || !errors.As(err, new(*fetch.TopicError)) {
		return wanted, nil, err
	}
	for _, t := range wanted {
		if _, err := m.cluster.Partitions(t); err != nil {
			absent = append(absent, &fetch.TopicError{Topic: t, Err: err})
		} else {
			topics = append(topics, t)
		}
	}
	if len(topics) == 0 {
		return nil, absent, err
	}
	return topics, absent, nil
}

// checkTopics ends the generation if it should have other topics: others match, or one that was
// absent can be used.
func (j *joinAttempt) checkTopics(ctx context.Context) {
	maxAge := j.member.consumer.clusters.Rematch / 2
	topics, _, err := j.member.topics(ctx, j.spec, maxAge, maxAge)
	if err != nil && !errors.Is(err, kafka.ErrNoTopic) {
		return // reported by those who need the metadata
	}
	if !slices.Equal(topics, j.generation.Topics) {
		j.member.log.Info("subscribed topics have changed", logkey.Before, len(j.generation.Topics), logkey.Now, len(topics))
		j.abandon(generation.ErrTopicsChanged)
	}
}
