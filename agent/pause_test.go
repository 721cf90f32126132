package agent

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/config"
)

func TestPauseKeepsTheMembershipAndStoresNothing(t *testing.T) {
	r := newRig(t, 1)
	r.edit("")
	r.produce(0, "a")
	r.wantRecords("t/0@0=a")
	before := r.wantStatus(consumer.Running)
	r.edit(", state: paused")
	r.wantStatus(consumer.Paused)
	if r.committed(0) != 1 {
		t.Error("the consumer is PAUSED, and not everything is committed")
	}
	r.produce(0, "b")
	r.stillOnly("t/0@0=a")
	r.edit("")
	r.wantStatus(consumer.Running)
	r.wantRecords("t/0@0=a", "t/0@1=b")
	if after := r.consumer(); after.MemberIDs[0] != before.MemberIDs[0] || after.Generation != before.Generation || after.ID != before.ID {
		t.Error("the pause changed the membership")
	}
}

func TestPauseSurvivesRebalanceAndRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.edit(", state: paused")
	r.wantStatus(consumer.Paused)
	generation := r.consumer().Generation
	other, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.ConsumerGroup("kcagent-c"),
		kgo.ConsumeTopics("t"), kgo.Balancers(kgo.StickyBalancer()), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("a rebalance", func() (bool, any) {
		c := r.consumer()
		return c.Generation > generation && len(c.Partitions) == 1, c
	})
	other.Close() // its partition comes back, and was not assigned when the pause began
	r.eventually("both partitions", func() (bool, any) {
		c := r.consumer()
		return len(c.Partitions) == 2, c
	})
	r.wantStatus(consumer.Paused)
	r.produce(0, "a")
	r.produce(1, "b")
	r.stillOnly()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.edit(", state: paused")
	r.wantStatus(consumer.Paused)
	r.stillOnly()
	r.edit("")
	r.eventually("both records", func() (bool, any) { got := r.memory.all(); return len(got) == 2, got })
}

func TestFetchSettingsAreAppliedInPlace(t *testing.T) {
	r := newRig(t, 1)
	r.edit("")
	r.wantStatus(consumer.Running)
	before := r.consumer()
	var bytes atomic.Int32
	r.cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		if f := req.(*kmsg.FetchRequest); len(f.Topics) > 0 {
			bytes.Store(f.Topics[0].Partitions[0].PartitionMaxBytes)
		}
		return nil, nil, false
	})
	r.edit(", max_partition_bytes: 4KiB")
	r.eventually("fetches of 4 KiB", func() (bool, any) { n := bytes.Load(); return n == 4096, n })
	if c := r.consumer(); c.Generation != before.Generation || c.ID != before.ID {
		t.Errorf("the update changed the member: %+v", c)
	}
}

func TestFlushSettingsAreAppliedInPlace(t *testing.T) {
	r := newRig(t, 1)
	r.edit(", flush: {interval: 1h}")
	r.wantStatus(consumer.Running)
	before := r.consumer()
	r.produce(0, "a")
	r.wantRecords("t/0@0=a")
	if got := r.committed(0); got > 0 {
		t.Fatalf("offset %d is committed an hour early", got)
	}
	r.edit("")
	r.wantCommitted(0, 1)
	if c := r.consumer(); c.Generation != before.Generation || c.ID != before.ID || c.PendingChange != nil {
		t.Errorf("the update changed the member: %+v", c)
	}
}

// TestPausedWaitsForWhatWasAcceptedDuringAFlush: a flush that began before the pause does not cover
// what was accepted while it ran, so the consumer is not PAUSED when that flush ends.
func TestPausedWaitsForWhatWasAcceptedDuringAFlush(t *testing.T) {
	r := newRig(t, 1)
	s := r.hangInFlush()
	r.produce(0, "b")
	r.wantRecords("t/0@0=a", "t/0@1=b")
	r.edit(", state: paused")
	r.eventually("the edit", func() (bool, any) {
		c := r.consumer()
		return c.Desired == config.Paused, c
	})
	s.flush <- struct{}{} // it ends, and the next one hangs
	r.wantCall("hangingSink).Flush")
	deadline := time.After(200 * time.Millisecond)
	for {
		if c := r.consumer(); c.Status == consumer.Paused {
			t.Errorf("the consumer is PAUSED, and only %d of 2 records are committed", r.committed(0))
			break
		}
		select {
		case <-deadline:
		case <-time.After(time.Millisecond):
			continue
		}
		break
	}
	close(s.flush)
	r.wantStatus(consumer.Paused)
	r.wantCommitted(0, 2)
}
