package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/agent/generation"
	"kcagent/agent/offsets"
	"kcagent/leader"
	"kcagent/sink"
)

// committedMeta returns the metadata of the committed offset of partition 0.
func (r *rig) committedMeta() (int64, offsets.Metadata) {
	r.Helper()
	offset, text := r.commitOf(0)
	m, _ := offsets.ParseMetadata(text)
	return offset, m
}

// TestPlanIsCommittedBeforeItsObjects: the plan is committed, with the settings that decide about
// the records, before the first byte is uploaded, and the offset after the last one.
func TestPlanIsCommittedBeforeItsObjects(t *testing.T) {
	r, p := newPlannedRig(t, 1, 2)
	p.onPut = func(_ sink.TopicPartition, plan sink.Plan) {
		offset, m := r.committedMeta()
		if m.Plan == nil || m.Plan.Nonce != plan.Nonce || m.Plan.First != plan.First || m.Plan.Next != plan.Next || offset != plan.First {
			t.Errorf("the objects of %+v are uploaded, and %d is committed with %+v", plan, offset, m.Plan)
			return
		}
		s := m.Plan.Settings
		if s["url"] != "mem://bucket" || s["isolation"] != "read_committed" || s["on_error"] != "stop" || s["decode.key"] != "none" || s["decode.value"] != "none" {
			t.Errorf("the plan has the settings %q", s)
		}
	}
	r.edit("")
	r.wantCommitted(0, 0)
	if _, m := r.committedMeta(); m.Topic.Topic == "" || m.Plan != nil {
		t.Errorf("the metadata is %+v", m)
	}
	r.produce(0, "a", "b")
	r.wantObjects(p.bucket, "t/0:0-1")
	r.produce(0, "c", "d")
	r.wantObjects(p.bucket, "t/0:0-1", "t/0:2-3")
	r.wantCommitted(0, 4)
	r.eventually("a commit without a plan", func() (bool, any) { _, m := r.committedMeta(); return m.Plan == nil && m.Nonce != "", m })
	r.produce(0, "e")
	r.wantCommitted(0, 4) // the range grows
	r.wantOnce(p.bucket, "t/0@0=a", "t/0@1=b", "t/0@2=c", "t/0@3=d")
}

// commitPlan commits a plan for partition 0, as an agent that has crashed since. Before, an agent
// has committed without a plan.
func (r *rig) commitPlan(plan sink.Plan) {
	r.Helper()
	_, m := r.committedMeta()
	m.Nonce, m.Plan = plan.Nonce, &plan
	r.commitExternally(0, plan.First, m.String())
}

// TestSuccessorCompletesAnOpenPlan: it publishes exactly the records of the plan, by the settings of
// the plan, and then continues by its own.
func TestSuccessorCompletesAnOpenPlan(t *testing.T) {
	for name, c := range map[string]struct {
		settings map[string]string
		deleted  int64 // records that Kafka has deleted meanwhile
		want     []string
	}{
		"all records":      {nil, 0, []string{"t/0@0=1", "t/0@1=not json", "t/0@2=3", "t/0@3=4", "t/0@4=not json"}},
		"decode and skip":  {map[string]string{"decode.value": "json", "on_error": "skip"}, 0, []string{"t/0@0=1", "t/0@2=3", "t/0@3=4", "t/0@4=not json"}},
		"dead letters":     {map[string]string{"decode.value": "json", "on_error": "dead_letter"}, 0, []string{"t/0@0=1", "t/0@2=3", "t/0@3=4", "t/0@4=not json"}},
		"some are deleted": {nil, 2, []string{"t/0@2=3", "t/0@3=4", "t/0@4=not json"}},
		"all are deleted":  {nil, 3, []string{"t/0@3=4", "t/0@4=not json"}},
		"more are deleted": {nil, 4, []string{"t/0@4=not json", "t/0@5=6"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, p := newPlannedRig(t, 1, 2)
			r.edit("")
			r.wantCommitted(0, 0)
			_ = r.stop()
			r.produce(0, "1", "not json", "3", "4", "not json")
			r.deleteBefore(0, c.deleted)
			r.commitPlan(sink.Plan{Nonce: "theirs", First: 0, Next: 3, Records: 3, Settings: c.settings})
			r.restart(p.open)
			r.edit("")
			if c.deleted > 3 {
				r.produce(0, "6") // a range has two records
			}
			r.wantOnce(p.bucket, c.want...)
			if keys := p.keys(); !slices.Contains(keys, "t/0:0-2") {
				t.Errorf("the objects are %q", keys)
			}
			if len(p.completed) != 1 || p.completed[0].Nonce != "theirs" {
				t.Errorf("the sink has completed %+v", p.completed)
			}
		})
	}
}

// TestOpenPlanBlocksWhatCannotCompleteIt: the partition stops with an error that says what to do,
// and nothing is committed.
func TestOpenPlanBlocksWhatCannotCompleteIt(t *testing.T) {
	plan := sink.Plan{Nonce: "theirs", First: 0, Next: 3, Records: 3, Settings: map[string]string{"url": "s3://lake/kafka"}}
	for name, c := range map[string]struct {
		planned  bool
		metadata func(string) string
		want     string
	}{
		"a sink without plans":     {false, func(text string) string { return text }, "resume t/0: objects of the offsets from 0 to 2 are planned at s3://lake/kafka and may be incomplete: restore sink.objects until the plan is completed"},
		"a plan of a next version": {true, func(text string) string { return strings.Replace(text, " plan=1", " plan=2", 1) }, `cannot complete the open plan at offset 0 (version "2")`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, p := newPlannedRig(t, 1, 2)
			r.edit("")
			r.wantCommitted(0, 0)
			_ = r.stop()
			r.produce(0, "a", "b", "c")
			r.commitPlan(plan)
			_, text := r.commitOf(0)
			text = c.metadata(text)
			r.commitExternally(0, 0, text)
			open := p.open
			if !c.planned {
				open = r.memory.open
			}
			r.restart(open)
			r.edit("")
			r.wantError(c.want)
			if offset, now := r.commitOf(0); offset != 0 || now != text || len(r.memory.all()) > 0 || len(p.keys()) > 0 {
				t.Errorf("%d is committed with %q; stored %q and %q", offset, now, r.memory.all(), p.keys())
			}
		})
	}
}

// TestRejectedPlanIsNotPublished: the coordinator rejects the commits of a member that has lost its
// partitions, also that of the last flush of its generation. Nothing is published before the next
// generation, which plans again.
func TestRejectedPlanIsNotPublished(t *testing.T) {
	r, p := newPlannedRig(t, 1, 2)
	r.edit("")
	r.wantCommitted(0, 0)
	was := r.wantStatus(consumer.Running).Generation
	var rejected, accepted []string // nonces of plans
	r.cluster.ControlKey(int16(kmsg.OffsetCommit), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		req := k.(*kmsg.OffsetCommitRequest)
		m, _ := offsets.ParseMetadata(*req.Topics[0].Partitions[0].Metadata)
		switch {
		case req.Generation == was:
			rejected = append(rejected, m.Nonce)
			return commitResponse(req, kerr.UnknownMemberID), nil, true
		case m.Plan != nil:
			accepted = append(accepted, m.Nonce)
		}
		return nil, nil, false
	})
	r.produce(0, "a", "b")
	r.wantOnce(p.bucket, "t/0@0=a", "t/0@1=b")
	r.wantCommitted(0, 2)
	r.wantGeneration(was)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.published) != 1 || len(p.puts) != 1 {
		t.Errorf("published %+v as %q", p.published, p.puts)
	}
	if len(rejected) < 2 || len(accepted) != 1 || slices.Contains(rejected, accepted[0]) || p.published[0].Nonce != accepted[0] {
		t.Errorf("plans %q were rejected, and %q accepted; published is %+v", rejected, accepted, p.published)
	}
}

// TestErrorResponseCommitsTheSamePlanAgain: after an error in the response, nothing is in flight, so
// the commit is repeated with its nonce.
func TestErrorResponseCommitsTheSamePlanAgain(t *testing.T) {
	r, p := newPlannedRig(t, 1, 2)
	r.edit("")
	r.wantCommitted(0, 0)
	was := r.wantStatus(consumer.Running).Generation
	var nonces []string
	r.observeCommits(func(_ int64, m offsets.Metadata) { nonces = append(nonces, m.Nonce) }, kerr.RequestTimedOut, 2)
	r.produce(0, "a", "b")
	r.wantOnce(p.bucket, "t/0@0=a", "t/0@1=b")
	r.wantCommitted(0, 2)
	if len(nonces) != 2 || nonces[0] != nonces[1] || p.published[0].Nonce != nonces[0] {
		t.Errorf("the plan was committed with the nonces %q", nonces)
	}
	if now := r.consumer().Generation; now != was {
		t.Errorf("generation %d follows %d", now, was)
	}
}

// TestTooLargePlanIsAnError: the error names the limit of the brokers.
func TestTooLargePlanIsAnError(t *testing.T) {
	r, _ := newPlannedRig(t, 1, 2)
	r.edit("")
	r.wantCommitted(0, 0)
	allow := r.rejectCommits(kerr.OffsetMetadataTooLarge)
	r.produce(0, "a", "b")
	r.wantError("raise offset.metadata.max.bytes of the brokers, or shorten url and key of sink.objects")
	allow()
	r.wantCommitted(0, 2)
}

// TestPauseStopAndRebalancePublishWhatIsLeft: the range that grows is published before the consumer
// is PAUSED, before it has stopped, and before another member gets the partition.
func TestPauseStopAndRebalancePublishWhatIsLeft(t *testing.T) {
	for name, end := range map[string]func(r *rig, p *planned){
		"pause": func(r *rig, p *planned) {
			hold := make(chan struct{})
			p.set(nil, hold)
			r.edit(", state: paused")
			r.eventually("the plan", func() (bool, any) { _, m := r.committedMeta(); return m.Plan != nil, m })
			if s := r.consumer().Status; s == consumer.Paused {
				r.Error("the consumer is PAUSED before its objects are published")
			}
			close(hold)
			r.wantStatus(consumer.Paused)
		},
		"stop": func(r *rig, _ *planned) {
			r.edit(", state: stopped")
			r.wantStatus(consumer.Created)
		},
		"shutdown": func(r *rig, _ *planned) {
			if err := r.stop(); err != nil {
				r.Error(err)
			}
		},
		"stop after a failed upload": func(r *rig, p *planned) {
			p.set(errStore, nil)
			r.edit(", state: stopped")
			r.eventually("the plan", func() (bool, any) { _, m := r.committedMeta(); return m.Plan != nil, m })
			p.set(nil, nil)
			r.wantStatus(consumer.Created)
		},
		"rebalance": func(r *rig, p *planned) {
			was := r.consumer().Generation
			other := r.neighbour(&planned{bucket: p.bucket})
			other.edit("")
			r.eventually("the next generation", func() (bool, any) { c := r.consumer(); return c.Generation > was, c })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, p := newPlannedRig(t, 1, 0)
			r.edit("")
			r.wantCommitted(0, 0)
			r.wantStatus(consumer.Running)
			r.produce(0, "a", "b", "c")
			r.eventually("the records in the sink", func() (bool, any) { n := r.counters().Records; return n == 3, n })
			if len(p.keys()) > 0 {
				t.Fatalf("published %q", p.keys())
			}
			end(r, p)
			r.wantCommitted(0, 3)
			r.wantObjects(p.bucket, "t/0:0-2")
			r.wantOnce(p.bucket, "t/0@0=a", "t/0@1=b", "t/0@2=c")
		})
	}
}

// loseResponses closes the connection of the next n commits of plans without a response. applied
// says whether the commits are applied before that.
func (r *rig) loseResponses(n int, applied bool) (lost *atomic.Int64) {
	lost = new(atomic.Int64)
	r.cluster.ControlKey(int16(kmsg.OffsetCommit), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		req := *k.(*kmsg.OffsetCommitRequest)
		m, _ := offsets.ParseMetadata(*req.Topics[0].Partitions[0].Metadata)
		if m.Plan == nil || lost.Load() >= int64(n) {
			return nil, nil, false
		}
		lost.Add(1)
		if applied {
			r.cluster.SleepControl(func() {
				if resp, err := req.RequestWith(context.Background(), r.client); err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
					r.Error(err, resp)
				}
			})
		}
		return nil, errors.New("cut"), true
	})
	return lost
}

// TestCommitWithoutResponse: after a commit of a plan without a response, nothing is committed or
// published until the committed offset is read. If it has the plan, the generation continues. If
// not, or if the commit was sent again after an error response, the member rejoins with another id.
// While the coordinator is away, it waits.
func TestCommitWithoutResponse(t *testing.T) {
	for name, c := range map[string]struct {
		extra   string
		applied bool
		away    int // failed requests of the committed offset
		rejoins bool
		errors  int // error responses before
	}{
		"applied":                              {"", true, 0, false, 0},
		"lost":                                 {"", false, 0, true, 0},
		"lost by a static member":              {", instance_id: i", false, 0, true, 0},
		"applied, and the coordinator is away": {"", true, 3, false, 0},
		"lost, and the coordinator is away":    {"", false, 3, true, 0},
		"applied after an error response":      {"", true, 0, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, p := newPlannedRig(t, 1, 2)
			r.edit(c.extra)
			r.wantCommitted(0, 0)
			r.wantStatus(consumer.Running)
			was := r.running().Snapshot()
			var away, during atomic.Int64
			r.failOffsetCommits(c.errors, kerr.RequestTimedOut)
			lost := r.loseResponses(1, c.applied)
			r.cluster.ControlKey(int16(kmsg.OffsetFetch), func(k kmsg.Request) (kmsg.Response, error, bool) {
				r.cluster.KeepControl()
				if lost.Load() == 0 || !k.(*kmsg.OffsetFetchRequest).RequireStable || away.Add(1) > int64(c.away) {
					return nil, nil, false
				}
				if r.consumer().Generation != was.Generation {
					during.Add(1)
				}
				return nil, errors.New("away"), true
			})
			p.onPut = func(sink.TopicPartition, sink.Plan) {
				if lost.Load() > 0 && away.Load() <= int64(c.away) {
					t.Error("published before the committed offset was read")
				}
			}
			r.produce(0, "a", "b")
			r.wantOnce(p.bucket, "t/0@0=a", "t/0@1=b")
			r.wantCommitted(0, 2)
			if c.rejoins {
				r.wantGeneration(was.Generation)
			}
			now := r.running().Snapshot()
			if rejoined := now.Generation != was.Generation; rejoined != c.rejoins || (now.MemberID != was.MemberID) != c.rejoins || during.Load() > 0 {
				t.Errorf("generation %d of %s follows generation %d of %s", now.Generation, now.MemberID, was.Generation, was.MemberID)
			}
			if len(p.puts) != 1 {
				t.Errorf("uploaded %q", p.puts)
			}
		})
	}
}

// TestLostResponsesCostFewGenerations: in a group of three members, the number of generations
// depends on the number of lost responses, and not on how long the coordinator loses them.
func TestLostResponsesCostFewGenerations(t *testing.T) {
	if testing.Short() {
		t.Skip("rebalances a group several times")
	}
	const partitions, losses, perLoss = 6, 4, 3
	r, p := newPlannedRig(t, partitions, 2)
	r.edit("")
	members := []*rig{r}
	for range 2 {
		other := r.neighbour(&planned{bucket: p.bucket, every: 2})
		other.edit("")
		members = append(members, other)
	}
	generation := func() (last int32) {
		for _, m := range members {
			last = max(last, m.consumer().Generation)
		}
		return last
	}
	r.eventually("each member has two partitions", func() (bool, any) {
		for _, m := range members {
			if c := m.consumer(); len(c.Partitions) != 2 || c.Status != consumer.Running {
				return false, c
			}
		}
		return true, nil
	})
	was := generation()
	lost := r.loseResponses(losses, false)
	var want []string
	for id := range int32(partitions) {
		for i := range 4 {
			want = append(want, fmt.Sprintf("t/%d@%d=%d", id, i, i))
			r.produce(id, fmt.Sprint(i))
		}
	}
	r.wantOnce(p.bucket, want...)
	if n := int(generation() - was); lost.Load() != losses || n > losses*perLoss {
		t.Errorf("%d generations for %d lost responses", n, lost.Load())
	} else {
		t.Logf("%d generations for %d lost responses", n, losses)
	}
}

// TestPartitionWaitsForTheSink: while the sink takes no chunk of a partition, the partition fetches
// nothing, shows no fault, and is not taken for a stalled one. If the sink reports an error
// meanwhile, the consumer shows that.
func TestPartitionWaitsForTheSink(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a stall")
	}
	t.Parallel()
	r, p := newPlannedRig(t, 1, 2)
	r.edit(", stall_timeout: 1s")
	r.wantCommitted(0, 0)
	p.setFull(true)
	r.produce(0, "a", "b")
	r.eventually("the lag", func() (bool, any) {
		lag := r.consumer().Partitions[0].Lag
		return lag != nil && *lag == 2, lag
	})
	var fetches atomic.Int64
	r.cluster.ControlKey(int16(kmsg.Fetch), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		if len(k.(*kmsg.FetchRequest).Topics) > 0 {
			fetches.Add(1)
		}
		return nil, nil, false
	})
	<-time.After(2500 * time.Millisecond) // longer than stall_timeout
	if c, n := r.counters(), fetches.Load(); c.Stalls > 0 || c.Records > 0 || n > 1 || r.consumer().Status != consumer.Running {
		t.Errorf("%d stalls, %d records, %d fetches; the consumer is %s", c.Stalls, c.Records, n, r.consumer().Status)
	}
	p.fail(errStore)
	r.wantError(errStore.Error())
	p.fail(nil)
	r.wantStatus(consumer.Running)
	p.setFull(false)
	r.wantOnce(p.bucket, "t/0@0=a", "t/0@1=b")
	r.wantCommitted(0, 2)
}

// TestTruncatedPlanIsAnError: a later leader has written the last record of the plan, so the log was
// truncated since. Nothing is published, also if the record is so large that it is stored in pieces.
func TestTruncatedPlanIsAnError(t *testing.T) {
	for _, last := range []string{"c", strings.Repeat("c", generation.LargeRecord)} {
		t.Run(fmt.Sprint(len(last)), func(t *testing.T) {
			r, p := newPlannedRig(t, 1, 2)
			r.edit("")
			r.wantCommitted(0, 0)
			_ = r.stop()
			r.produce(0, "a", "b")
			r.cluster.ShufflePartitionLeaders() // another epoch
			r.produce(0, last)
			r.commitPlan(sink.Plan{Nonce: "theirs", First: 0, Next: 3, Epoch: leader.NewEpoch(0), Records: 3})
			r.restart(p.open)
			r.edit("")
			r.wantError("complete the plan of t/0: the log was truncated since objects of the offsets from 0 to 2 were planned")
			if got := p.keys(); len(got) > 0 {
				t.Errorf("published %d objects", len(got))
			}
		})
	}
}

// transaction produces records of partition 0 in a transaction, which is committed or aborted.
func (r *rig) transaction(end kgo.TransactionEndTry, values ...string) {
	r.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.TransactionalID("tx"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		r.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		r.Fatal(err)
	}
	for _, v := range values {
		if err := cl.ProduceSync(r.Context(), &kgo.Record{Topic: "t", Value: []byte(v)}).FirstErr(); err != nil {
			r.Fatal(err)
		}
	}
	if err := cl.EndTransaction(r.Context(), end); err != nil {
		r.Fatal(err)
	}
}

// TestLaterEpochAfterAPlan: what follows a plan was written by a later leader, and has no record for
// the consumer. The agent does not report a truncated log.
func TestLaterEpochAfterAPlan(t *testing.T) {
	r, p := newPlannedRig(t, 1, 2)
	r.edit("")
	r.wantCommitted(0, 0)
	_ = r.stop()
	r.transaction(kgo.TryCommit, "a", "b")
	r.cluster.ShufflePartitionLeaders() // another epoch
	r.transaction(kgo.TryAbort, "c")
	r.commitPlan(sink.Plan{Nonce: "theirs", First: 0, Next: 3, Epoch: leader.NewEpoch(0), Records: 2, Settings: map[string]string{"isolation": "read_committed"}})
	r.restart(p.open)
	r.edit("")
	r.wantObjects(p.bucket, "t/0:0-2")
	r.wantOnce(p.bucket, "t/0@0=a", "t/0@1=b")
	r.wantCommitted(0, 3)
}

// TestPausedConsumerKeepsAnOpenPlan: a paused consumer stores nothing, so it completes the plan once
// it is running.
func TestPausedConsumerKeepsAnOpenPlan(t *testing.T) {
	r, p := newPlannedRig(t, 1, 2)
	r.edit("")
	r.wantCommitted(0, 0)
	_ = r.stop()
	r.produce(0, "a", "b", "c", "d")
	r.deleteBefore(0, 1)
	plan := sink.Plan{Nonce: "theirs", First: 0, Next: 2, Records: 2}
	r.commitPlan(plan)
	r.restart(p.open)
	r.edit(", state: paused")
	r.wantStatus(consumer.Paused)
	if _, m := r.committedMeta(); m.Plan == nil || len(p.keys()) > 0 {
		t.Errorf("the consumer is PAUSED with %+v and %q", m, p.keys())
	}
	r.edit("")
	r.wantOnce(p.bucket, "t/0@1=b", "t/0@2=c", "t/0@3=d")
	r.wantObjects(p.bucket, "t/0:0-1", "t/0:2-3")
}

// TestResetPublishesFirst: on_offset_out_of_range moves the position while the sink has records. They
// are published before a range begins at the new position.
func TestResetPublishesFirst(t *testing.T) {
	r, p := newPlannedRig(t, 1, 0)
	r.edit("")
	r.wantCommitted(0, 0)
	r.produce(0, "a", "b")
	r.eventually("the records in the sink", func() (bool, any) { n := r.counters().Records; return n == 2, n })
	p.setFull(true)
	r.produce(0, "c", "d", "e") // and the first of them wakes the partition
	r.eventually("the lag", func() (bool, any) {
		lag := r.consumer().Partitions[0].Lag
		return lag != nil && *lag == 3, lag
	})
	r.deleteBefore(0, 4)
	p.setFull(false)
	r.wantCommitted(0, 4)
	r.wantObjects(p.bucket, "t/0:0-1")
	r.eventually("the next record in the sink", func() (bool, any) { n := r.counters().Records; return n == 3, n })
	r.edit(", state: stopped")
	r.wantStatus(consumer.Created)
	r.wantObjects(p.bucket, "t/0:0-1", "t/0:4-4")
	r.wantOnce(p.bucket, "t/0@0=a", "t/0@1=b", "t/0@4=e")
}
