package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/agent/web"
	"kcagent/sink"
)

// idleGoroutines is how many goroutines a consumer has while there is nothing to do: its state
// machine and the one that keeps it joined, and sarama's for heartbeats and for the responses of
// the coordinator.
const idleGoroutines = 4

func (r *rig) threads() web.Threads {
	r.Helper()
	th, err := r.agent.Threads()
	if err != nil {
		r.Fatal(err)
	}
	return th
}

func (r *rig) wantGoroutines(when string, want int) {
	r.Helper()
	r.eventually(fmt.Sprintf("%d goroutines %s", want, when), func() (bool, any) {
		th := r.threads()
		return th.Consumers["c"] == want && len(th.Zombies) == 0, th
	})
}

// TestIdleConsumerHasFourGoroutines: no partition that waits for records, no flush that is not
// due and no watchdog has a goroutine, whatever the consumer did before.
func TestIdleConsumerHasFourGoroutines(t *testing.T) {
	for _, partitions := range []int{1, 100} {
		t.Run(fmt.Sprintf("partitions=%d", partitions), func(t *testing.T) {
			r := newRig(t, int32(partitions))
			r.edit("")
			r.wantStatus(consumer.Running)
			r.wantGoroutines("after the start", idleGoroutines)
			for p := range partitions {
				r.produce(int32(p), "a")
			}
			for p := range partitions {
				r.wantCommitted(int32(p), 1)
			}
			r.wantGoroutines("after records", idleGoroutines)
			r.edit(", state: paused")
			r.wantStatus(consumer.Paused)
			r.wantGoroutines("during a pause", idleGoroutines)
			r.edit("")
			r.wantStatus(consumer.Running)
			r.wantGoroutines("after a pause", idleGoroutines)
			rebalances := r.counters().Rebalances
			r.makeTopic("u")
			r.edit(", topics: [t, u]")
			r.eventually("another generation", func() (bool, any) {
				n := r.counters().Rebalances
				return n > rebalances, n
			})
			r.wantGoroutines("after a rebalance", idleGoroutines)
			r.edit(", topics: [t, u], state: stopped")
			r.wantStatus(consumer.Created)
			r.wantGoroutines("after a stop", 0)
		})
	}
}

// TestMembersOfEachKindHaveFourGoroutines: what looks for topics, for unassigned partitions and for
// changed credentials has no goroutine in the meantime.
func TestMembersOfEachKindHaveFourGoroutines(t *testing.T) {
	for _, extra := range []string{", topics_regex: '^t$'", ", topics: [t, missing]", ", instance_id: i"} {
		t.Run(extra, func(t *testing.T) {
			r := newRig(t, 1)
			r.edit(extra)
			r.eventually("a partition", func() (bool, any) {
				c := r.consumer()
				return len(c.Partitions) == 1, c
			})
			r.wantGoroutines("while it is idle", idleGoroutines)
		})
	}
}

// A hangingSink is a sink in memory whose calls block until they are released.
type hangingSink struct {
	*memory
	write, flush chan struct{} // nil: the call does not block
}

func (s *hangingSink) Write(ctx context.Context, c sink.Chunk) error {
	if s.write != nil {
		<-s.write
	}
	return s.memory.Write(ctx, c)
}

func (s *hangingSink) Flush(ctx context.Context, all bool) error {
	if s.flush != nil {
		<-s.flush
	}
	return s.memory.Flush(ctx, all)
}

// hang starts the agent again, without a configuration. The consumer name has sink s.
func (r *rig) hang(name string, s *hangingSink) {
	r.Helper()
	s.memory = r.memory
	r.restart(func(ctx context.Context, spec sink.Spec, o sink.Options) (sink.Sink, error) {
		opened, err := r.memory.open(ctx, spec, o)
		if err == nil && o.Consumer == name {
			return s, nil
		}
		return opened, err
	})
}

// hangInFlush starts the consumer, and returns its sink once the flush of a first record hangs.
func (r *rig) hangInFlush() *hangingSink {
	r.Helper()
	s := &hangingSink{flush: make(chan struct{})}
	r.hang("c", s)
	r.edit("")
	r.wantStatus(consumer.Running)
	r.produce(0, "a")
	r.wantRecords("t/0@0=a")
	r.wantCall("hangingSink).Flush")
	return s
}

// wantCall waits until a goroutine is in a function.
func (r *rig) wantCall(function string) {
	r.Helper()
	r.eventually("a call of "+function, func() (bool, any) {
		th := r.threads()
		return slices.ContainsFunc(th.Threads, func(g web.ThreadGroup) bool { return strings.HasSuffix(g.Function, function) }), th
	})
}

// TestGoroutinesOnDemandHaveTheLabelOfTheirConsumer: a goroutine that reads because the fetcher
// has records, and one that flushes because a timer has expired, belong to the consumer, and to
// no cluster.
func TestGoroutinesOnDemandHaveTheLabelOfTheirConsumer(t *testing.T) {
	for call, s := range map[string]*hangingSink{
		"Write": {write: make(chan struct{})},
		"Flush": {flush: make(chan struct{})},
	} {
		t.Run(call, func(t *testing.T) {
			r := newRig(t, 1)
			r.hang("c", s)
			r.edit("")
			r.wantStatus(consumer.Running)
			r.wantGoroutines("while it is idle", idleGoroutines)
			r.produce(0, "a")
			r.eventually("a goroutine in "+call, func() (bool, any) {
				th := r.threads()
				for _, g := range th.Threads {
					if strings.HasSuffix(g.Function, "hangingSink)."+call) {
						return g.Consumer != nil && *g.Consumer == "c" && g.Cluster == "" && g.Recognized && th.Consumers["c"] == idleGoroutines+1, th
					}
				}
				return false, th
			})
			if s.write != nil {
				close(s.write)
			} else {
				close(s.flush)
			}
			r.wantCommitted(0, 1)
			r.wantGoroutines("afterwards", idleGoroutines)
		})
	}
}

// TestHangingConsumerDoesNotStopTheWatchOfOthers: while the sink of one consumer does not
// respond, a stalled partition of another one is noticed.
func TestHangingConsumerDoesNotStopTheWatchOfOthers(t *testing.T) {
	r := newRig(t, 1)
	s := &hangingSink{write: make(chan struct{})}
	r.hang("hangs", s)
	defer close(s.write)
	r.edit(fmt.Sprintf(`, stall_timeout: 1s, topics: [t], flush: {interval: 20ms}, sink: {stdout: {}}}
  - {name: hangs, stall_timeout: 1s, topics: [t], brokers: ["%s"], sink: {stdout: {}}`, r.cluster.ListenAddrs()[0]))
	r.wantStatus(consumer.Running)
	r.produce(0, "a")
	r.wantRecords("t/0@0=a")
	r.wantCall("hangingSink).Write")
	var stuck atomic.Bool
	stuck.Store(true)
	r.stallFetches(&stuck, 4)
	r.produce(0, "b", "c", "d")
	r.eventually("a restart of the other consumer", func() (bool, any) {
		c := r.consumer()
		return c.RestartsTotal > 0, c
	})
	stuck.Store(false)
	r.wantCommitted(0, 4)
}

// TestLeaderFindsAddedPartitions: partitions that are added to a topic are read from their
// beginning, also if the leader of the group does not subscribe to the topic.
func TestLeaderFindsAddedPartitions(t *testing.T) {
	r := newRig(t, 1)
	r.makeTopic("u")
	r.edit(fmt.Sprintf(`, start: latest, group: g, topics: [t], flush: {interval: 20ms}, sink: {stdout: {}}}
  - {name: other, start: latest, group: g, topics: [u], brokers: ["%s"], sink: {stdout: {}}`, r.cluster.ListenAddrs()[0]))
	partitions := func() (both [2]int) {
		for i, c := range r.agent.Status().Consumers {
			if c.Status == consumer.Running {
				both[i] = len(c.Partitions)
			}
		}
		return both
	}
	want := [2]int{1, 1}
	r.eventually("two members that run", func() (bool, any) {
		now := partitions()
		return now == want, now
	})
	for i, topic := range []string{"t", "u"} { // one of them is not the leader's
		r.addPartition(topic, 2)
		want[i] = 2
		r.eventually("another partition of "+topic, func() (bool, any) {
			if err := r.agent.clusters.Open()[0].Refresh(t.Context(), []string{"t", "u"}); err != nil {
				t.Fatal(err)
			}
			now := partitions()
			return now == want, now
		})
	}
	r.produce(1, "a")
	r.wantRecords("t/1@0=a")
	if log := r.log.String(); !strings.Contains(log, "partition count") {
		t.Errorf("the log does not name the reason:\n%s", log)
	}
}

func (r *rig) addPartition(name string, count int32) {
	r.Helper()
	req := kmsg.NewPtrCreatePartitionsRequest()
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = name, count
	req.Topics = append(req.Topics, topic)
	if resp, err := req.RequestWith(r.Context(), r.client); err != nil || resp.Topics[0].ErrorCode != 0 {
		r.Fatal(err, resp)
	}
}

// TestRoundEndsWhileItsPartitionWaits: a flush fails so that the file has to be opened again,
// while the partition waits for records and has no goroutine. The partition notices, and reads
// again what was lost.
func TestRoundEndsWhileItsPartitionWaits(t *testing.T) {
	r := newRig(t, 1)
	s := r.hangInFlush()
	r.wantGoroutines("with a flush in progress", idleGoroutines+1)
	r.memory.failPartition(0, partitionFault{flush: fmt.Errorf("sync: %w", sink.ErrReopen)})
	s.flush <- struct{}{}
	r.wantError("sync")
	r.memory.failPartition(0, partitionFault{})
	close(s.flush)
	r.wantCommitted(0, 1)
	r.wantStatus(consumer.Running)
	r.wantRecords("t/0@0=a")
	r.wantGoroutines("afterwards", idleGoroutines)
}

// TestNothingIsFetchedForAnEndedConsumer: the subscription of a partition that waits for records,
// without a goroutine, is closed with the generation.
func TestNothingIsFetchedForAnEndedConsumer(t *testing.T) {
	r := newRig(t, 1)
	r.makeTopic("u")
	other := fmt.Sprintf(`, topics: [t], flush: {interval: 20ms}, sink: {stdout: {}}}
  - {name: other, topics: [u], brokers: ["%s"], sink: {stdout: {}}`, r.cluster.ListenAddrs()[0])
	r.edit(other)
	r.eventually("two consumers that run", func() (bool, any) {
		s := r.agent.Status()
		return s.Summary[consumer.Running] == 2, s.Consumers
	})
	const several = 4 * 500 * time.Millisecond // times the longest wait of a request without records
	var last atomic.Pointer[time.Time]         // when the topic t was last in a request
	r.cluster.ControlKey(int16(kmsg.Fetch), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		for _, rt := range k.(*kmsg.FetchRequest).Topics {
			if now := time.Now(); rt.Topic == "t" {
				last.Store(&now)
			}
		}
		return nil, nil, false
	})
	r.eventually("a request for the topic", func() (bool, any) { return last.Load() != nil, nil })
	r.edit(", state: stopped" + other)
	r.wantStatus(consumer.Created)
	r.eventually("no further request for the topic", func() (bool, any) {
		return time.Since(*last.Load()) > several, nil
	})
}

// TestHangingWriteEndsTheRoundsOfOtherPartitions: a consumer that cannot end, because a write of
// one partition hangs, requests no records of its other partitions any more.
func TestHangingWriteEndsTheRoundsOfOtherPartitions(t *testing.T) {
	r := newRig(t, 20)
	s := &hangingSink{write: make(chan struct{})}
	r.hang("c", s)
	defer close(s.write)
	r.edit("")
	r.wantStatus(consumer.Running)
	const several = 4 * 500 * time.Millisecond // times the longest wait of a request without records
	var last atomic.Pointer[time.Time]         // when another partition was last in a request
	r.cluster.ControlKey(int16(kmsg.Fetch), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		for _, rt := range k.(*kmsg.FetchRequest).Topics {
			for _, rp := range rt.Partitions {
				if now := time.Now(); rp.Partition != 0 {
					last.Store(&now)
				}
			}
		}
		return nil, nil, false
	})
	r.eventually("a request", func() (bool, any) { return last.Load() != nil, nil })
	r.produce(0, "a")
	r.wantCall("hangingSink).Write")
	r.edit(", state: stopped")
	r.wantStatus(consumer.Stopping)
	r.eventually("no further request", func() (bool, any) {
		return time.Since(*last.Load()) > several, nil
	})
}
