package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/agent/offsets"
	"kcagent/leader"
	"kcagent/sink"
)

// truncate makes the leader of partition 0 respond to fetches at pos, in leader epoch 0, as if
// its log had been truncated to end, until a lower offset is fetched.
func (r *rig) truncate(pos, end int64) {
	var over atomic.Bool
	r.cluster.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		p := req.Topics[0].Partitions[0]
		if p.FetchOffset < pos {
			over.Store(true)
		}
		if over.Load() || p.LastFetchedEpoch != 0 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic = "t"
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.DivergingEpoch.Epoch, rp.DivergingEpoch.EndOffset = 0, end
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	r.cluster.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		resp := kreq.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = "t"
		rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
		rp.LeaderEpoch, rp.EndOffset = 0, end
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
}

// committedEpoch returns the leader epoch that the group has committed for partition 0.
func (r *rig) committedEpoch() int32 {
	r.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = "kcagent-c"
	req.Groups = append(req.Groups, g)
	resp, err := req.RequestWith(context.Background(), r.client)
	if err != nil {
		r.Fatal(err)
	}
	return resp.Groups[0].Topics[0].Partitions[0].LeaderEpoch
}

// TestTruncationIsDetectedAfterARestart: the committed offset and the ledger keep
// the leader epoch over a restart. The records of the new branch follow those of the lost
// one, with a new lineage that is committed before the first of them.
func TestTruncationIsDetectedAfterARestart(t *testing.T) {
	for _, ledger := range []bool{true, false} {
		t.Run(fmt.Sprintf("ledger=%v", ledger), func(t *testing.T) {
			r := newRig(t, 1)
			r.memory.keepsLedger = ledger
			r.produce(0, "a", "b", "c", "d", "e")
			r.edit("")
			r.wantCommitted(0, 5)
			if e := r.committedEpoch(); e != 0 {
				t.Fatalf("leader epoch %d is committed, want 0", e)
			}
			if at := r.memory.durable[sink.TopicPartition{Topic: "t"}]; at.Epoch != leader.NewEpoch(0) {
				t.Fatalf("the ledger has epoch %s, want 0", at.Epoch)
			}
			_, before := r.commitOf(0)
			_ = r.stop()
			r.truncate(5, 3)
			r.restart(nil)
			r.edit("")
			r.wantRecords("t/0@0=a", "t/0@1=b", "t/0@2=c", "t/0@3=d", "t/0@4=e", "t/0@3=d", "t/0@4=e")
			r.eventually("the commit", func() (bool, any) {
				offset, after := r.commitOf(0)
				m, ok := offsets.ParseMetadata(after)
				was, _ := offsets.ParseMetadata(before)
				return offset == 5 && ok && m.Lineage != was.Lineage, after
			})
			if n := r.counters(); n.Truncations != 1 || n.OffsetResets != 1 {
				t.Errorf("%d truncations and %d resets are counted", n.Truncations, n.OffsetResets)
			}
			if log := r.log.String(); strings.Count(log, `"msg":"log truncated"`) != 1 || !strings.Contains(log, `"from":5,"to":3,"diverging":3,"epoch":"0","leader_epoch":"0","policy":"earliest"`) {
				t.Error("the log lacks the truncation, or has it several times")
			}
		})
	}
}

// TestTruncationStopsThePartition: with on_offset_out_of_range fail, nothing is read or
// committed, also after a restart, until an operator sets an offset.
func TestTruncationStopsThePartition(t *testing.T) {
	r := newRig(t, 1)
	r.memory.keepsLedger = true
	r.produce(0, "a", "b", "c", "d", "e")
	const strict = ", on_offset_out_of_range: fail"
	r.edit(strict)
	r.wantCommitted(0, 5)
	_ = r.stop()
	r.truncate(5, 3)
	for range 2 {
		r.restart(nil)
		r.edit(strict)
		r.eventually("the error", func() (bool, any) {
			c := r.consumer()
			return c.Status == consumer.Failing && c.LastError != nil && strings.Contains(*c.LastError, "log of t/0 was truncated: it diverges at offset 3"), c
		})
		if n := r.committed(0); n != 5 {
			t.Errorf("%d is committed", n)
		}
		_ = r.stop()
	}
	r.commitExternally(0, 4, "")
	r.restart(nil)
	r.edit(strict)
	r.wantRecords("t/0@0=a", "t/0@1=b", "t/0@2=c", "t/0@3=d", "t/0@4=e", "t/0@4=e")
	r.wantStatus(consumer.Running)
}

// TestRewoundPositionKeepsItsEpoch: records that the sink did not accept are fetched again
// with the leader epoch of the record before.
func TestRewoundPositionKeepsItsEpoch(t *testing.T) {
	r := newRig(t, 1)
	r.memory.keepsLedger = true
	r.produce(0, "a", "b")
	r.edit("")
	r.wantCommitted(0, 2)
	r.memory.failPartition(0, partitionFault{write: errors.New("full")})
	r.produce(0, "c")
	r.wantStatus(consumer.Failing)
	var unknown, known atomic.Int32
	r.cluster.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		if p := kreq.(*kmsg.FetchRequest).Topics[0].Partitions[0]; p.LastFetchedEpoch < 0 {
			unknown.Add(1)
		} else if p.FetchOffset == 2 {
			known.Add(1)
		}
		return nil, nil, false
	})
	r.eventually("a fetch after a failed write", func() (bool, any) { return known.Load()+unknown.Load() > 0, nil })
	r.memory.failPartition(0, partitionFault{})
	r.wantRecords("t/0@0=a", "t/0@1=b", "t/0@2=c")
	if unknown.Load() > 0 {
		t.Errorf("%d fetches have no leader epoch", unknown.Load())
	}
}

// TestCommitOfAnotherClientDoesNotCountAsReset: the partition resumes at the offset that another
// client committed with a leader epoch while the agent was down. That does not count as a
// reset.
func TestCommitOfAnotherClientDoesNotCountAsReset(t *testing.T) {
	r := newRig(t, 1)
	r.memory.keepsLedger = true
	r.produce(0, "a", "b")
	r.edit("")
	r.wantCommitted(0, 2)
	_ = r.stop()
	r.produce(0, "c", "d", "e")
	r.commitAs(0, 4, 0, "")
	r.restart(nil)
	r.edit("")
	r.wantRecords("t/0@0=a", "t/0@1=b", "t/0@4=e")
	if n := r.counters().OffsetResets; n != 0 || !strings.Contains(r.log.String(), offsets.AtOtherClient.Message) {
		t.Errorf("%d resets are counted", n)
	}
}

// TestTruncationCommitsTheFormerPositionFirst: before a position is reset to an earlier
// offset, the former position is committed. Otherwise a crash between the flush of the new
// position and its commit would lead back to an even lower offset, and the file would repeat
// the records from there.
func TestTruncationCommitsTheFormerPositionFirst(t *testing.T) {
	for _, ledger := range []bool{true, false} {
		t.Run(fmt.Sprintf("ledger=%v", ledger), func(t *testing.T) {
			r := newRig(t, 1)
			r.memory.keepsLedger = ledger
			r.produce(0, "a")
			r.edit(", flush: {interval: 1h}")
			r.wantRecords("t/0@0=a")
			r.produce(0, "b", "c", "d", "e")
			r.wantRecords("t/0@0=a", "t/0@1=b", "t/0@2=c", "t/0@3=d", "t/0@4=e")
			var mu sync.Mutex
			var commits []int64
			r.cluster.ControlKey(int16(kmsg.OffsetCommit), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
				r.cluster.KeepControl()
				mu.Lock()
				defer mu.Unlock()
				commits = append(commits, kreq.(*kmsg.OffsetCommitRequest).Topics[0].Partitions[0].Offset)
				return nil, nil, false
			})
			r.truncate(5, 3)
			r.wantRecords("t/0@0=a", "t/0@1=b", "t/0@2=c", "t/0@3=d", "t/0@4=e", "t/0@3=d", "t/0@4=e")
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(commits, []int64{5, 3}) {
				t.Errorf("committed are %v, want 5 and 3", commits)
			}
		})
	}
}
