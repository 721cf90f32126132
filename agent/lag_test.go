package agent

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/agent/web"
	"kcagent/sink"
)

// produceAt produces records whose timestamp is older by age.
func (r *rig) produceAt(age time.Duration, values ...string) {
	r.Helper()
	recs := make([]*kgo.Record, len(values))
	for i, v := range values {
		recs[i] = &kgo.Record{Topic: "t", Value: []byte(v), Timestamp: time.Now().Add(-age)}
	}
	if err := r.client.ProduceSync(context.Background(), recs...).FirstErr(); err != nil {
		r.Fatal(err)
	}
}

// wantLag waits until the consumer and its only partition have a lag.
func (r *rig) wantLag(n int64) web.ConsumerStatus {
	r.Helper()
	var c web.ConsumerStatus
	r.eventually("the lag", func() (bool, any) {
		c = r.consumer()
		return c.Lag != nil && *c.Lag == n && len(c.Partitions) == 1 && *c.Partitions[0].Lag == n, c
	})
	return c
}

// wantLagTime checks that the lag time had a value within the last half minute.
func (r *rig) wantLagTime(c *web.ConsumerStatus, age time.Duration) {
	r.Helper()
	for _, seconds := range []*float64{c.LagSeconds, c.Partitions[0].LagSeconds} {
		if seconds == nil || *seconds < age.Seconds() || *seconds > age.Seconds()+30 {
			r.Errorf("lag_seconds is %v, want %v", pointed(seconds), age.Seconds())
		}
	}
}

func pointed(v *float64) any {
	if v == nil {
		return nil
	}
	return *v
}

// wantUnknownLag checks that no value of the lag is shown, and that it has no series.
func (r *rig) wantUnknownLag(c *web.ConsumerStatus) {
	r.Helper()
	if c.Lag != nil || c.LagSeconds != nil || c.CatchUpSeconds != nil {
		r.Errorf("in %s the lag is %d, and lag_seconds and catch_up_seconds are %v and %v", c.Status, *c.Lag, pointed(c.LagSeconds), pointed(c.CatchUpSeconds))
	}
	if text := r.metrics(); strings.Contains(text, "\nkcagent_consumer_lag_") || strings.Contains(text, "\nkcagent_partition_lag_") || strings.Contains(text, "\nkcagent_consumer_catch_up_") {
		r.Errorf("in %s the lag has a series", c.Status)
	}
}

// TestLagIsUnknownWithoutMembership: before the consumer has joined its group, and once it is
// stopped.
func TestLagIsUnknownWithoutMembership(t *testing.T) {
	r := newRig(t, 1)
	release := make(chan struct{})
	r.cluster.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		r.cluster.SleepControl(func() { <-release })
		return nil, nil, false
	})
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	r.edit("")
	r.wantStatus(consumer.Starting)
	c := r.consumer()
	r.wantUnknownLag(&c)
	free()
	r.wantStatus(consumer.Running)
	c = r.wantLag(0)
	r.wantLagTime(&c, 0)
	if c.CatchUpSeconds == nil || *c.CatchUpSeconds != 0 {
		t.Errorf("without lag, catch_up_seconds is %v", pointed(c.CatchUpSeconds))
	}
	r.edit(", state: stopped")
	r.wantStatus(consumer.Created)
	c = r.consumer()
	r.wantUnknownLag(&c)
}

// TestLagIsUnknownDuringAnOutage: once the brokers have not responded for half a minute.
func TestLagIsUnknownDuringAnOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for half a minute")
	}
	t.Parallel()
	r := newRig(t, 1)
	r.edit("")
	r.wantStatus(consumer.Running)
	r.wantLag(0)
	r.cluster.Close()
	r.wantStatus(consumer.Failing)
	r.eventually("an unknown lag", func() (bool, any) { c := r.consumer(); return c.Lag == nil, c })
	c := r.consumer()
	r.wantUnknownLag(&c)
}

// newPausedRig returns a rig with a paused consumer. The record that it wrote last is an hour old.
func newPausedRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, 1)
	r.produceAt(time.Hour, "a")
	r.edit("")
	r.wantRecords("t/0@0=a")
	r.edit(", state: paused")
	r.wantStatus(consumer.Paused)
	return r
}

// TestLagGrowsWhilePaused: the end stays known, and the lag time is the age of the record that was
// written last.
func TestLagGrowsWhilePaused(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for two lookups of the end")
	}
	t.Parallel()
	r := newPausedRig(t)
	r.produceAt(time.Minute, "b", "c")
	c := r.wantLag(2)
	r.wantLagTime(&c, time.Hour)
	r.produceAt(0, "d")
	c = r.wantLag(3)
	if c.CatchUpSeconds != nil {
		t.Errorf("a paused consumer catches up in %v", pointed(c.CatchUpSeconds))
	}
	r.edit("")
	r.wantLag(0)
}

// TestLagOfAPausedConsumerInARecreatedTopic: the end of the new topic may be below the former
// position, which no fetch finds out during a pause.
func TestLagOfAPausedConsumerInARecreatedTopic(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for two lookups of the end")
	}
	t.Parallel()
	r := newRig(t, 1)
	r.produceTo("t", "a", "b", "c", "d")
	r.edit("")
	r.wantCommitted(0, 4)
	r.edit(", state: paused")
	r.wantStatus(consumer.Paused)
	r.recreateTopic("t")
	r.produceTo("t", "e", "f")
	r.wantLag(2)
	r.wantStatus(consumer.Paused)
}

// TestLagIsKnownWhileTheSinkFails: a consumer in ERROR that keeps its partitions knows how far
// it is behind, and how old the record is that it cannot write.
func TestLagIsKnownWhileTheSinkFails(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for two lookups of the end")
	}
	t.Parallel()
	r := newRig(t, 1)
	r.memory.fail(errors.New("disk is full"), nil)
	r.produceAt(2*time.Hour, "a")
	r.produceAt(time.Hour, "b")
	r.edit("")
	r.wantError("disk is full")
	c := r.wantLag(2)
	r.wantLagTime(&c, 2*time.Hour)
	r.produceAt(0, "c", "d")
	c = r.wantLag(4)
	r.wantLagTime(&c, 2*time.Hour)
	if c.Status != consumer.Failing {
		t.Errorf("the status is %s", c.Status)
	}
	r.memory.fail(nil, nil)
	r.wantLag(0)
}

// A pacedSink writes one record whenever it gets a pace.
type pacedSink struct {
	*memory
	pace <-chan struct{}
}

func (s *pacedSink) Write(ctx context.Context, c sink.Chunk) error {
	select {
	case <-s.pace:
		return s.memory.Write(ctx, c)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestCatchUpFollowsASlowSink: the time to catch up is known while the lag falls, and unknown
// when it does not.
func TestCatchUpFollowsASlowSink(t *testing.T) {
	if testing.Short() {
		t.Skip("takes samples for half a minute")
	}
	t.Parallel()
	r := newRig(t, 1)
	pace := make(chan struct{})
	r.memory.room = 1 // a chunk has one record
	r.stop()
	r.open = func(ctx context.Context, s sink.Spec, o sink.Options) (sink.Sink, error) {
		_, err := r.memory.open(ctx, s, o)
		return &pacedSink{r.memory, pace}, err
	}
	r.start()
	const records = 3000
	for i := range 6 {
		r.produceAt(time.Duration(6-i)*time.Hour, make([]string, records/6)...)
	}
	r.edit("")
	c := r.wantLag(records)
	r.wantLagTime(&c, 6*time.Hour) // of the first record, which is being written
	if c.CatchUpSeconds != nil {
		t.Errorf("a blocked consumer catches up in %v", pointed(c.CatchUpSeconds))
	}

	r.produceAt(0, "another")
	r.wantLag(records + 1)

	ctx, cancel := context.WithCancel(t.Context())
	var feeder sync.WaitGroup
	feeder.Go(func() {
		for ctx.Err() == nil { // 100 records a second
			select {
			case pace <- struct{}{}:
				<-time.After(10 * time.Millisecond)
			case <-ctx.Done():
			}
		}
	})
	t.Cleanup(func() { cancel(); feeder.Wait() })
	r.eventually("a time to catch up", func() (bool, any) {
		c = r.consumer()
		return c.CatchUpSeconds != nil && c.Partitions[0].CatchUpSeconds != nil, c
	})
	r.eventually("an earlier end at half of the lag", func() (bool, any) {
		now := r.consumer() // a busy machine may slow the feeder down for a while
		if now.Lag == nil || *now.Lag == 0 {
			t.Fatalf("the lag is %+v", now)
		}
		return *now.Lag < records/2 && now.CatchUpSeconds != nil && *now.CatchUpSeconds < *c.CatchUpSeconds && *now.LagSeconds < *c.LagSeconds, now
	})
	cancel()
	feeder.Wait()
	r.eventually("no time to catch up", func() (bool, any) { c := r.consumer(); return c.CatchUpSeconds == nil && c.Lag != nil, c })
}

// TestLagTimeSurvivesARebalance: a paused consumer reads nothing from which the lag time could be
// known again.
func TestLagTimeSurvivesARebalance(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a lookup of the end")
	}
	t.Parallel()
	r := newPausedRig(t)
	r.produceAt(0, "b")
	r.wantLag(1)
	before := r.consumer().Generation
	other, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.ConsumerGroup("kcagent-c"),
		kgo.ConsumeTopics("t"), kgo.Balancers(kgo.StickyBalancer()), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("another generation", func() (bool, any) { n := r.consumer().Generation; return n > before, n })
	other.Close()
	c := r.wantLag(1)
	r.wantLagTime(&c, time.Hour)
}
