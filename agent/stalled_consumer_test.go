package agent

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
)

// TestStalledPartitionRestartsTheConsumer: a broker that reports records and returns
// none is an error with the details. The consumer is restarted, and the restart is counted.
// The partition counts as
// stalled until the broker returns the records.
func TestStalledPartitionRestartsTheConsumer(t *testing.T) {
	r := newRig(t, 1)
	r.edit(", stall_timeout: 1s")
	r.wantStatus(consumer.Running)
	id := r.consumer().ID
	var stuck atomic.Bool
	stuck.Store(true)
	r.stallFetches(&stuck, 3)
	r.produce(0, "a", "b", "c")
	r.eventually("a stall", func() (bool, any) {
		c := r.consumer()
		return c.RestartsTotal > 0, c
	})
	if n := r.counters().StalledPartitions; n != 1 {
		t.Errorf("%d partitions are stalled after the restart, want 1: it made no progress", n)
	}
	stuck.Store(false)
	r.wantRecords("t/0@0=a", "t/0@1=b", "t/0@2=c")
	r.wantStatus(consumer.Running)
	if c := r.consumer(); c.ID != id || c.LastError != nil {
		t.Errorf("the consumer is %+v", c)
	}
	r.eventually("no partition to be stalled", func() (bool, any) {
		n := r.counters().StalledPartitions
		return n == 0, n
	})
	if n := r.counters().Stalls; n < 1 {
		t.Errorf("%d stalls are counted", n)
	}
	if !slices.Contains(r.moves(), "RUNNING>ERROR") {
		t.Errorf("the stall was no error: %v", r.moves())
	}
	if log := r.log.String(); !strings.Contains(log, "no progress on t/0 for 1s: position 0, end of the log 3, broker 127.0.0.1:") {
		t.Errorf("the log does not report it:\n%s", log)
	}
}

// stallFetches makes the broker report end as the end of each partition and return no records,
// while stuck is true.
func (r *rig) stallFetches(stuck *atomic.Bool, end int64) {
	r.cluster.ControlKey(int16(kmsg.Fetch), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		req := k.(*kmsg.FetchRequest)
		if !stuck.Load() || len(req.Topics) == 0 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		for _, rt := range req.Topics {
			st := kmsg.NewFetchResponseTopic()
			st.Topic = rt.Topic
			for _, rp := range rt.Partitions {
				sp := kmsg.NewFetchResponseTopicPartition()
				sp.Partition, sp.HighWatermark, sp.LastStableOffset = rp.Partition, end, end
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
}
