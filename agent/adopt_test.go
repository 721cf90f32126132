package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/agent/offsets"
	"kcagent/sink"
)

// TestLedgerHasThePositionBeforeTheFirstRecord: it has the position also before the consumer
// is RUNNING or PAUSED.
func TestLedgerHasThePositionBeforeTheFirstRecord(t *testing.T) {
	for _, state := range []consumer.State{consumer.Running, consumer.Paused} {
		t.Run(string(state), func(t *testing.T) {
			r := newRig(t, 3)
			r.memory.keepsLedger = true
			r.produce(0, "a", "b", "c")
			r.commitExternally(0, 2, "")
			r.edit(", start: latest, flush: {interval: 1h}, state: " + strings.ToLower(string(state)))
			r.wantStatus(state)
			r.memory.mu.Lock()
			defer r.memory.mu.Unlock()
			for p, next := range []int64{2, 0, 0} {
				if got := r.memory.durable[sink.TopicPartition{Topic: "t", Partition: int32(p)}]; got.Next != next || got.Lineage == "" {
					t.Errorf("the consumer is %s, and the durable ledger has %+v for partition %d", state, got, p)
				}
			}
			if r.memory.flushes > 3 {
				t.Errorf("%d flushes for three partitions", r.memory.flushes)
			}
		})
	}
}

// TestExternalCommitIsCommittedAgainBeforeTheFirstRecord: after an external commit, no record
// is stored before the offset is committed with a lineage.
func TestExternalCommitIsCommittedAgainBeforeTheFirstRecord(t *testing.T) {
	r := newRig(t, 1)
	r.memory.keepsLedger = true
	r.produce(0, "a", "b", "c")
	r.edit("")
	r.wantCommitted(0, 3)
	_ = r.stop()
	r.commitExternally(0, 1, "by hand")
	var deaf atomic.Bool
	deaf.Store(true)
	r.cluster.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		return nil, errors.New("no commit"), deaf.Load()
	})
	r.restart(nil)
	r.edit("")
	r.eventually("the position in the ledger", func() (bool, any) {
		r.memory.mu.Lock()
		defer r.memory.mu.Unlock()
		return r.memory.durable[sink.TopicPartition{Topic: "t"}].Next == 1, r.memory.adoptions
	})
	r.stillOnly("t/0@0=a", "t/0@1=b", "t/0@2=c")
	deaf.Store(false)
	r.wantRecords("t/0@0=a", "t/0@1=b", "t/0@2=c", "t/0@1=b", "t/0@2=c")
	if n := r.counters().OffsetResets; n != 1 || !strings.Contains(r.log.String(), offsets.AtExternalReset.Message) {
		t.Errorf("%d resets are counted", n)
	}
}

// TestLateCommitIsCommittedAgain: a commit without a response arrives after the next one, and
// so moves the committed offset back.
func TestLateCommitIsCommittedAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for five seconds")
	}
	t.Parallel()
	r := newRig(t, 1)
	r.edit("")
	r.wantCommitted(0, 0)
	var mu sync.Mutex
	var late *kmsg.OffsetCommitRequest
	r.cluster.ControlKey(int16(kmsg.OffsetCommit), func(k kmsg.Request) (kmsg.Response, error, bool) {
		mu.Lock()
		defer mu.Unlock()
		req := *k.(*kmsg.OffsetCommitRequest)
		late = &req
		return nil, errors.New("cut"), true
	})
	r.produce(0, "a")
	r.eventually("a commit without a response", func() (bool, any) { mu.Lock(); defer mu.Unlock(); return late != nil, nil })
	r.produce(0, "b")
	r.wantCommitted(0, 2)
	mu.Lock()
	late.Version = 0
	resp, err := late.RequestWith(context.Background(), r.client)
	mu.Unlock()
	if err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatal(err, resp)
	}
	if at := r.committed(0); at != 1 {
		t.Fatalf("the late commit has set the offset to %d", at)
	}
	r.wantCommitted(0, 2)
	if !strings.Contains(r.log.String(), "a late commit moved the committed offset back") {
		t.Error("the log does not report the late commit")
	}
}

// TestResetToAnEarlierOffsetIsCommittedBeforeTheFirstRecord: a position out of range is reset to
// an earlier offset. That starts a new lineage.
func TestResetToAnEarlierOffsetIsCommittedBeforeTheFirstRecord(t *testing.T) {
	r := newRig(t, 1)
	r.memory.keepsLedger = true
	r.produce(0, "a")
	r.edit("")
	r.wantCommitted(0, 1)
	_, before := r.commitOf(0)
	_ = r.stop()
	m, _ := offsets.ParseMetadata(before)
	r.commitExternally(0, 9, before)
	r.memory.durable[sink.TopicPartition{Topic: "t"}] = sink.Position{Next: 9, Lineage: m.Lineage, Topic: m.Topic}
	r.restart(nil)
	r.edit("")
	r.wantRecords("t/0@0=a", "t/0@0=a")
	r.wantCommitted(0, 1)
	_, after := r.commitOf(0)
	if now, _ := offsets.ParseMetadata(after); now.Lineage == m.Lineage {
		t.Errorf("the lineage is still %s", now.Lineage)
	}
	if !slices.Contains(r.memory.adoptions, "t/0=0") {
		t.Errorf("positions adopted: %v", r.memory.adoptions)
	}
	_ = r.stop()
	r.restart(nil)
	r.edit("")
	r.wantStatus(consumer.Running)
	r.produce(0, "b")
	r.wantRecords("t/0@0=a", "t/0@0=a", "t/0@1=b")
	if n := r.counters().CheckpointCopies; n != 0 {
		t.Error("the reset is reported as a copied checkpoint")
	}
}
