package agent

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/fetch"
)

// rematchEvery is how often a member that follows topics_regex looks which
// topics there are; with jitter, and with a topic gone only from the second list
// that lacks it, a change is followed within a minute. Half of it is how old a
// list may be, which all members of the cluster share.
const rematchEvery = 20 * time.Second

var (
	errResubscribe = errors.New("other topics are wanted")
	errNoTopic     = errors.New("no topic matches topics_regex")
	errMoved       = errors.New("another cluster is at the addresses than when the group was joined")
	errForeign     = errors.New("a topic is assigned that was not asked for")
)

// sameTopics reports whether two forms of a consumer ask for the same topics.
func sameTopics(a, b *config.Consumer) bool {
	return a.TopicsRegex == b.TopicsRegex && slices.Equal(a.Topics, b.Topics)
}

// topics are what spec subscribes to now: its topics, or those of the cluster that
// match. The list of the cluster's topics is as of listAge ago at most, and what is known
// of each topic as of topicAge. One that cannot be used keeps none of the others
// from being read: it is left out, and absent says why. Its error says that there is
// none to read.
func (m *member) topics(ctx context.Context, spec *config.Consumer, listAge, topicAge time.Duration) (topics []string, absent []error, err error) {
	wanted := spec.Topics
	if spec.TopicsRegex != "" {
		all, err := m.cluster.Topics(ctx, listAge)
		if err != nil {
			return nil, nil, fmt.Errorf("list topics: %w", err)
		}
		if wanted, err = matching(all, spec.TopicsRegex); err != nil {
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

// follow ends the generation once it should have other topics: others match, or one
// that was absent is there.
func (s *session) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(jitter(s.member.kafka.rematch)):
		}
		maxAge := s.member.kafka.rematch / 2
		topics, _, err := s.member.topics(ctx, s.wish, maxAge, maxAge)
		if err != nil && !errors.Is(err, errNoTopic) {
			continue // what keeps us from asking is told by whoever needs it
		}
		if !slices.Equal(topics, s.topics) {
			s.log.Info("there are other topics to read", "were", len(s.topics), "are", len(topics))
			s.abandon(errResubscribe)
			return
		}
	}
}

// vanished finds a topic of the session that is not there any more, by what is known
// without asking. Only the leader of a group looks for that itself.
func (s *session) vanished() (topic string, gone bool) {
	for _, t := range s.topics {
		if _, err := s.cluster.Partitions(t); errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
			return t, true
		}
	}
	return "", false
}

// foreign finds a topic among the claims that the session has not subscribed to. A
// static member that comes back is given what it had before, whatever it asks for now.
func (s *session) foreign(claims map[string][]int32) (topic string, found bool) {
	for t := range claims {
		if !slices.Contains(s.topics, t) {
			return t, true
		}
	}
	return "", false
}
