package agent

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
)

// TestPartitionsWithoutLeaderAreOneCause: a consumer that loses the leaders of many
// partitions logs that once, in addition to its change of state.
func TestPartitionsWithoutLeaderAreOneCause(t *testing.T) {
	t.Parallel()
	const partitions = 20
	r := newRig(t, partitions)
	r.edit("")
	r.wantStatus(consumer.Running)
	var mu sync.Mutex
	failing := make(map[int32]bool)
	r.cluster.ControlKey(int16(kmsg.Fetch), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		req := k.(*kmsg.FetchRequest)
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		for _, t := range req.Topics {
			topic := kmsg.NewFetchResponseTopic()
			topic.Topic, topic.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				failing[p.Partition] = true
				part := kmsg.NewFetchResponseTopicPartition()
				part.Partition, part.ErrorCode = p.Partition, kerr.NotLeaderForPartition.Code
				topic.Partitions = append(topic.Partitions, part)
			}
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	r.wantStatus(consumer.Failing)
	r.eventually("the errors of all partitions", func() (bool, any) {
		mu.Lock()
		defer mu.Unlock()
		return len(failing) == partitions, len(failing)
	})
	<-time.After(time.Second) // for retries
	if lines := r.log.Logged(t, "consumer still fails"); len(lines) > 1 {
		t.Errorf("%d lines, such as %+v", len(lines), lines[:2])
	}
}
