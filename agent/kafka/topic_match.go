package kafka

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/IBM/sarama"

	"kcagent/config"
	"kcagent/fetch"
)

// ErrNoTopic reports that topics_regex matches no topic of the cluster.
var ErrNoTopic = errors.New("no topic matches topics_regex")

// Matching returns the topics that match pattern. As with grep, the match may be anywhere
// in the name, unless the pattern has ^ and $.
func Matching(all []string, pattern string) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("compile topics_regex: %w", err)
	}
	topics := slices.DeleteFunc(slices.Clone(all), func(t string) bool { return !re.MatchString(t) })
	if len(topics) == 0 {
		return nil, fmt.Errorf("%w %s", ErrNoTopic, pattern)
	}
	return topics, nil
}

// SameTopics reports whether two specs of a consumer ask for the same topics.
func SameTopics(a, b *config.Consumer) bool {
	return a.TopicsRegex == b.TopicsRegex && slices.Equal(a.Topics, b.Topics)
}

// MissingTopics returns the topics that do not exist according to err, or to one of the
// errors joined in it.
func MissingTopics(err error) (topics []string) {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range all.Unwrap() {
			topics = append(topics, MissingTopics(err)...)
		}
		return topics
	}
	var t *fetch.TopicError
	if errors.As(err, &t) && errors.Is(t.Err, sarama.ErrUnknownTopicOrPartition) {
		topics = append(topics, t.Topic)
	}
	return topics
}

// SubscribeError names the topic that a [fetch.TopicError] is about. Other errors are
// returned as they are.
func SubscribeError(err error) error {
	if t, ok := errors.AsType[*fetch.TopicError](err); ok {
		return fmt.Errorf("subscribe to topic %q: %w", t.Topic, t.Err)
	}
	return err
}
