package agent

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
)

// TestStartIsCommittedBeforeRunning: the start offset is committed before the consumer is RUNNING.
// Otherwise a restart after a crash would skip records that were produced meanwhile.
func TestStartIsCommittedBeforeRunning(t *testing.T) {
	for _, start := range []string{"latest", time.Now().Add(time.Hour).UTC().Format(time.RFC3339)} {
		r := newRig(t, 2)
		r.produce(0, "old")
		r.edit(", flush: {interval: 1h}, start: '" + start + "'")
		r.wantStatus(consumer.Running)
		if p, q := r.committed(0), r.committed(1); p != 1 || q != 0 {
			t.Errorf("start: %s: the consumer is RUNNING, and %d and %d are committed", start, p, q)
		}
		_ = r.stop()
	}
}

// TestRestartKeepsTheInitialPartitions: a group that was stopped before it had resolved the
// start of all partitions still applies the start policy to the others after a restart. They
// do not count as partitions that were added later.
func TestRestartKeepsTheInitialPartitions(t *testing.T) {
	r := newRig(t, 2)
	for p := range int32(2) {
		r.produce(p, "old")
	}
	var mu sync.Mutex
	asked, broken := 0, true
	r.cluster.ControlKey(int16(kmsg.ListOffsets), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		req := k.(*kmsg.ListOffsetsRequest)
		if asked++; !broken {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, rt := range req.Topics {
			st := kmsg.NewListOffsetsResponseTopic()
			st.Topic = rt.Topic
			for _, rp := range rt.Partitions {
				sp := kmsg.NewListOffsetsResponseTopicPartition()
				if sp.Partition, sp.Offset = rp.Partition, 1; rp.Partition == 1 {
					sp.ErrorCode = kerr.UnknownServerError.Code
				}
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
	r.edit(", start: latest")
	r.eventually("the response for one partition", func() (bool, any) {
		c := r.consumer()
		return len(c.Partitions) == 2 && c.Partitions[0].NextOffset == 1, c
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if p := r.committed(0); p != 1 {
		t.Errorf("%d is committed for the partition with a position", p)
	}
	mu.Lock()
	broken = false
	mu.Unlock()
	r.start()
	r.edit(", start: latest")
	r.wantStatus(consumer.Running)
	r.wantCommitted(0, 1)
	r.wantCommitted(1, 1)
	r.produce(1, "new")
	r.wantRecords("t/1@1=new")
}
