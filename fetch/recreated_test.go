package fetch

import (
	"errors"
	"testing"
	"time"

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
	r.recreateTopic()
	r.produce(0, 100, 10)
	rd.Resume()
	r.waitForRecreated(rd)
	r.waitForRecords(rd, 0, 5)
}

// TestTopicRecreatedDuringPauseWithFewerRecords: the lookup of the end finds it out, so that the
// lag of the paused consumer is not that of the former topic.
func TestTopicRecreatedDuringPauseWithFewerRecords(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1, smallSettings)
	r.setEndTimes(time.Second, time.Minute)
	r.produce(0, 0, 5)
	rd := r.startReader(Spec{}, false)
	r.waitForRecords(rd, 0, 5)
	rd.Pause()
	r.recreateTopic()
	r.produce(0, 100, 2)
	r.waitForRecreated(rd)
}

func (r *rig) waitForRecreated(rd *reader) {
	r.Helper()
	r.eventually("the end of the subscription", func() (bool, any) {
		_, _, err := rd.seen()
		return errors.As(err, new(*partition.RecreatedError)), err
	})
}

// recreateTopic deletes the topic and creates it again with one partition.
func (r *rig) recreateTopic() {
	r.Helper()
	drop := kmsg.NewPtrDeleteTopicsRequest()
	named := kmsg.NewDeleteTopicsRequestTopic()
	named.Topic = kmsg.StringPtr("t")
	drop.Topics, drop.TopicNames = append(drop.Topics, named), []string{"t"}
	if _, err := drop.RequestWith(r.Context(), r.producer); err != nil {
		r.Fatal(err)
	}
	again := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "t", 1, 1
	again.Topics = append(again.Topics, topic)
	if resp, err := again.RequestWith(r.Context(), r.producer); err != nil || resp.Topics[0].ErrorCode != 0 {
		r.Fatal(err, resp)
	}
	r.producer = r.newClient() // the former client knows the former topic
}
