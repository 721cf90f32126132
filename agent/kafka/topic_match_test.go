package kafka

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/IBM/sarama"

	"kcagent/fetch"
)

func TestMissingTopicsAreThoseThatDoNotExist(t *testing.T) {
	missing := func(topic string) error {
		return &fetch.TopicError{Topic: topic, Err: sarama.ErrUnknownTopicOrPartition}
	}
	denied := &fetch.TopicError{Topic: "t", Err: sarama.ErrTopicAuthorizationFailed}
	for _, c := range []struct {
		err  error
		want []string
	}{
		{missing("t"), []string{"t"}},
		{fmt.Errorf("join group g: %w", missing("t")), []string{"t"}},
		{errors.Join(missing("a"), denied, nil, missing("b")), []string{"a", "b"}},
		{errors.Join(errors.Join(missing("a")), missing("b")), []string{"a", "b"}},
		{denied, nil},
		{errors.New("no"), nil},
		{errors.Join(), nil},
	} {
		if got := MissingTopics(c.err); !slices.Equal(got, c.want) {
			t.Errorf("missing according to %q: %q, want %q", c.err, got, c.want)
		}
	}
}
