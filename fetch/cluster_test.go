package fetch

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestTopicMadeAnewDuringAPause: the first fetch after it does not take the position
// in the old topic for one in the new.
func TestTopicMadeAnewDuringAPause(t *testing.T) {
	r := newRig(t, 1, 1, small)
	r.produce(0, 0, 5)
	rd := r.read(Spec{}, false)
	r.wants(rd, 0, 5)
	rd.Pause()
	drop := kmsg.NewPtrDeleteTopicsRequest()
	named := kmsg.NewDeleteTopicsRequestTopic()
	named.Topic = kmsg.StringPtr("t")
	drop.Topics, drop.TopicNames = append(drop.Topics, named), []string{"t"}
	if _, err := drop.RequestWith(t.Context(), r.producer); err != nil {
		t.Fatal(err)
	}
	again := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "t", 1, 1
	again.Topics = append(again.Topics, topic)
	if resp, err := again.RequestWith(t.Context(), r.producer); err != nil || resp.Topics[0].ErrorCode != 0 {
		t.Fatal(err, resp)
	}
	r.producer = r.client() // the former one knows the former topic
	r.produce(0, 100, 10)
	rd.Resume()
	r.eventually("the end of the subscription", func() (bool, any) {
		_, _, err := rd.seen()
		return errors.As(err, new(*RenewedError)), err
	})
	r.wants(rd, 0, 5)
}
