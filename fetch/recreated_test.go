package fetch

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/partition"
)

// TestTopicRecreatedDuringPause: the first fetch after the pause does not use the position in the
// former topic.
func TestTopicRecreatedDuringPause(t *testing.T) {
	r := newRig(t, 1, 1, smallSettings)
	r.produce(0, 0, 5)
	rd := r.startReader(Spec{}, false)
	r.waitForRecords(rd, 0, 5)
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
	r.producer = r.newClient() // the former client knows the former topic
	r.produce(0, 100, 10)
	rd.Resume()
	r.eventually("the end of the subscription", func() (bool, any) {
		_, _, err := rd.seen()
		return errors.As(err, new(*partition.RecreatedError)), err
	})
	r.waitForRecords(rd, 0, 5)
}
