package agent

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"kcagent/config"
)

// rematchEvery is how often a member that follows topics_regex looks which
// topics there are; with jitter, and with a topic gone only from the second list
// that lacks it, a change is followed within a minute. Half of it is how old a
// list may be, which all members of the cluster share.
const rematchEvery = 20 * time.Second

var (
	errResubscribe = errors.New("other topics are wanted")
	errNoTopic     = errors.New("no topic matches topics_regex")
)

// sameTopics reports whether two forms of a consumer ask for the same topics.
func sameTopics(a, b *config.Consumer) bool {
	return a.TopicsRegex == b.TopicsRegex && slices.Equal(a.Topics, b.Topics)
}

// topics are what spec subscribes to now: its topics, or those of the cluster
// that match, as of maxAge ago at most.
func (m *member) topics(ctx context.Context, spec *config.Consumer, maxAge time.Duration) ([]string, error) {
	if spec.TopicsRegex == "" {
		return spec.Topics, nil
	}
	all, err := m.cluster.Topics(ctx, maxAge)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	return matching(all, spec.TopicsRegex)
}

// matching are those of all topics that match anywhere, as with grep: ^ and $
// say where.
func matching(all []string, pattern string) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("compile topics_regex: %w", err)
	}
	topics := slices.DeleteFunc(slices.Clone(all), func(t string) bool { return !re.MatchString(t) })
	if len(topics) == 0 {
		return nil, fmt.Errorf("%w %s", errNoTopic, pattern)
	}
	return topics, nil
}

// follow ends the generation once other topics match.
func (s *session) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(jitter(s.member.kafka.rematch)):
		}
		topics, err := s.member.topics(ctx, s.wish, s.member.kafka.rematch/2)
		if err != nil && !errors.Is(err, errNoTopic) {
			continue // what keeps us from asking is told by whoever needs it
		}
		if !slices.Equal(topics, s.topics) {
			s.log.Info("other topics match topics_regex", "were", len(s.topics), "are", len(topics))
			s.abandon(errResubscribe)
			return
		}
	}
}
