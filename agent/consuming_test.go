package agent

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/agent/web"
)

func TestRecordsAreStoredAndCommitted(t *testing.T) {
	r := newRig(t, 1)
	r.produce(0, "a", "b")
	r.edit("")
	r.wantStatus(consumer.Running)
	r.wantRecords("t/0@0=a", "t/0@1=b")
	r.wantCommitted(0, 2)
	var c web.ConsumerStatus
	r.eventually("the response to the commit", func() (bool, any) { c = r.consumer(); return c.Partitions[0].CommittedOffset == 2, c })
	if c.RecordsTotal != 2 || len(c.MemberIDs) != 1 || c.LastFlushAt == nil {
		t.Errorf("the status is %+v", c)
	}
	metrics := r.metrics()
	for _, line := range []string{
		`kcagent_consumer_records_total{consumer="c"} 2`,
		`kcagent_consumer_bytes_total{consumer="c"} 2`,
		`kcagent_consumer_lag_records{consumer="c"} 0`,
		`kcagent_partition_next_offset{consumer="c",partition="0",topic="t"} 2`,
		`kcagent_partition_lag_records{consumer="c",partition="0",topic="t"} 0`,
	} {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
	for _, name := range []string{"consumer_last_record_timestamp_seconds", "consumer_flush_duration_seconds_bucket"} {
		if !strings.Contains(metrics, "\nkcagent_"+name+`{consumer="c"`) {
			t.Errorf("the metrics lack kcagent_%s", name)
		}
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

func TestNothingIsCommittedBeforeItIsFlushed(t *testing.T) {
	r := newRig(t, 1)
	r.memory.fail(nil, errors.New("disk on fire"))
	r.produce(0, "a")
	r.edit("")
	failing := r.wantStatus(consumer.Failing)
	if e := failing.LastError; e == nil || !strings.Contains(*e, "disk on fire") {
		t.Errorf("the last error is %v", e)
	}
	r.eventually("a second attempt", func() (bool, any) {
		r.memory.mu.Lock()
		defer r.memory.mu.Unlock()
		return r.memory.flushes > 1, r.memory.flushes
	})
	if got := r.committed(0); got > 0 {
		t.Errorf("offset %d is committed, although nothing was flushed", got)
	}
	r.memory.fail(nil, nil)
	r.wantStatus(consumer.Running)
	r.wantCommitted(0, 1)
	r.wantRecords("t/0@0=a")
}

func TestWriteErrorKeepsRecordsAndMembership(t *testing.T) {
	r := newRig(t, 1)
	r.edit("")
	r.wantStatus(consumer.Running)
	before := r.consumer()
	r.memory.fail(errors.New("no space left on device"), nil)
	r.produce(0, "a", "b")
	failing := r.wantStatus(consumer.Failing)
	if e := failing.LastError; e == nil || !strings.Contains(*e, "no space left") {
		t.Errorf("the last error is %v", e)
	}
	r.memory.fail(nil, nil)
	r.wantStatus(consumer.Running)
	r.wantRecords("t/0@0=a", "t/0@1=b")
	if after := r.consumer(); after.MemberIDs[0] != before.MemberIDs[0] || after.Generation != before.Generation {
		t.Errorf("the member changed from %v/%d to %v/%d", before.MemberIDs, before.Generation, after.MemberIDs, after.Generation)
	}
}

func TestCommitErrorIsReportedAndRetried(t *testing.T) {
	r := newRig(t, 1)
	r.edit("")
	r.wantStatus(consumer.Running)
	r.wantCommitted(0, 0) // the start offset of a new group
	r.failOffsetCommits(1, kerr.GroupAuthorizationFailed)
	r.produce(0, "a")
	r.wantCommitted(0, 1)
	r.wantStatus(consumer.Running)
	r.eventually("a counted commit error", func() (bool, any) {
		n := r.counters().CommitErrors
		return n == 1, n
	})
	r.wantRecords("t/0@0=a")
}

// TestSingleTransientCommitErrorIsNotReported: an error that a retry is likely to correct is
// counted, and reported only if the retry fails, too.
// TestRejectedCommitEndsTheGeneration: once a commit is rejected because the member has lost its
// partitions, it reads no further before it has joined again. Its heartbeats succeed here.
func TestRejectedCommitEndsTheGeneration(t *testing.T) {
	for _, code := range []*kerr.Error{kerr.IllegalGeneration, kerr.UnknownMemberID} {
		t.Run(code.Message, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1)
			r.edit("")
			r.produce(0, "a")
			r.wantCommitted(0, 1)
			before := r.consumer().RebalancesTotal
			r.failOffsetCommits(1, code)
			r.produce(0, "b")
			r.eventually("another generation", func() (bool, any) {
				c := r.consumer()
				return c.RebalancesTotal > before, c.Status
			})
			r.wantCommitted(0, 2)
			r.wantRecords("t/0@0=a", "t/0@1=b")
			r.wantStatus(consumer.Running)
			if e := r.consumer().RecentErrors; len(e) > 0 {
				t.Errorf("the consumer reports %v", e)
			}
		})
	}
}

func TestSingleTransientCommitErrorIsNotReported(t *testing.T) {
	r := newRig(t, 1)
	r.edit("")
	r.wantStatus(consumer.Running)
	r.wantCommitted(0, 0)
	r.failOffsetCommits(1, kerr.NotCoordinator)
	r.produce(0, "a")
	r.wantCommitted(0, 1)
	if n := r.counters().CommitErrors; n != 1 {
		t.Errorf("%d commit errors were counted, want 1", n)
	}
	if moves := strings.Join(r.moves(), " "); strings.Contains(moves, "ERROR") {
		t.Errorf("a single error was reported: %s", moves)
	}
	r.failOffsetCommits(2, kerr.NotCoordinator)
	r.produce(0, "b")
	r.wantCommitted(0, 2)
	r.eventually("an error for two in a row, and its end", func() (bool, any) {
		moves := strings.Join(r.moves(), " ")
		return strings.HasSuffix(moves, "RUNNING>ERROR ERROR>RUNNING"), moves
	})
}

// TestForbiddenGroupIsReportedAtOnce: after the first response that says so.
func TestForbiddenGroupIsReportedAtOnce(t *testing.T) {
	r := newRig(t, 1)
	var asked atomic.Int32
	r.cluster.ControlKey(int16(kmsg.FindCoordinator), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		if r.consumer().Status != consumer.Failing {
			asked.Add(1)
		}
		resp := k.ResponseKind().(*kmsg.FindCoordinatorResponse)
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
		return resp, nil, true
	})
	r.edit("")
	r.wantStatus(consumer.Failing)
	if n := asked.Load(); n > 2 { // the second may be on its way already
		t.Errorf("%d requests were sent before the report", n)
	}
}

func TestGoroutinesHaveTheLabelOfTheirConsumer(t *testing.T) {
	r := newRig(t, 4)
	r.edit("")
	r.wantStatus(consumer.Running)
	r.produce(0, "a")
	r.wantRecords("t/0@0=a")
	var th web.Threads
	r.eventually("the end of the goroutines of the former test", func() (bool, any) {
		var err error
		if th, err = r.agent.Threads(); err != nil {
			t.Fatal(err)
		}
		return len(th.Zombies) == 0, th.Zombies
	})
	if n := th.Consumers["c"]; n < idleGoroutines {
		t.Errorf("only %d goroutines are counted for the consumer", n)
	}
	for _, g := range th.Threads {
		if g.Consumer == nil && g.Cluster == "" && strings.Contains(g.Function, "sarama") {
			t.Errorf("%d goroutines in %s have no owner", g.Count, g.Function)
		}
		if !g.Recognized {
			t.Errorf("goroutines are not recognized: %+v", g)
		}
	}
}

// TestMemberWithoutPartitionsIsRunning: in a group with more members than partitions,
// a member without any is RUNNING like the others.
func TestMemberWithoutPartitionsIsRunning(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.edit(`, topics: [t], flush: {interval: 20ms}, sink: {stdout: {}}}
  - {name: spare, topics: [t], group: kcagent-c, brokers: ["` + r.cluster.ListenAddrs()[0] + `"], sink: {stdout: {}}`)
	r.eventually("two members that run", func() (bool, any) {
		s := r.agent.Status()
		return s.Summary[consumer.Running] == 2 && len(s.Consumers[0].Partitions)+len(s.Consumers[1].Partitions) == 1, s.Consumers
	})
	r.produce(0, "a")
	r.wantRecords("t/0@0=a")
	r.wantCommitted(0, 1)
}

func TestEveryStateChangeIsLoggedOnceWithItsReason(t *testing.T) {
	r := newRig(t, 1)
	r.edit("")
	r.wantStatus(consumer.Running)
	r.edit(", state: paused")
	r.wantStatus(consumer.Paused)
	r.edit("")
	r.wantStatus(consumer.Running)
	r.memory.fail(errors.New("disk full"), nil)
	r.produce(0, "a")
	r.wantStatus(consumer.Failing)
	r.memory.fail(nil, nil)
	r.wantStatus(consumer.Running)
	r.edit(", state: stopped")
	r.wantStatus(consumer.Created)
	r.edit("")
	r.wantStatus(consumer.Running)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	want := "CREATED>STARTING STARTING>RUNNING RUNNING>PAUSED PAUSED>RUNNING RUNNING>ERROR ERROR>RUNNING " +
		"RUNNING>STOPPING STOPPING>CREATED CREATED>STARTING STARTING>RUNNING RUNNING>STOPPING STOPPING>TERMINATED"
	if got := strings.Join(r.moves(), " "); got != want {
		t.Errorf("logged state changes\n%s\nwant\n%s", got, want)
	}
}
