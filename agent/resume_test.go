package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/sink"
)

// newFileRig is a rig with the real file sink.
func newFileRig(t *testing.T, partitions int32, opts ...kfake.Opt) *rig {
	t.Helper()
	r := newRig(t, partitions, opts...)
	_ = r.stop()
	r.open = sink.Open
	r.start()
	return r
}

// restart ends the agent and starts another one, whose sinks open opens.
func (r *rig) restart(open openSink) {
	r.Helper()
	if err := r.stop(); err != nil {
		r.Error(err)
	}
	r.open = open
	r.start()
}

func toFile(path string) string {
	return ", flush: {interval: 20ms}, sink: {file: {path: '" + path + "'}}"
}

// values are n distinct values, each as long as pad at least.
func values(prefix string, from, n, pad int) []string {
	var vs []string
	for i := range n {
		vs = append(vs, fmt.Sprintf("%s%03d%s", prefix, from+i, strings.Repeat(".", pad)))
	}
	return vs
}

// lines of a file, without the padding.
func lines(path string) []string {
	data, _ := os.ReadFile(path)
	var all []string
	for l := range strings.Lines(string(data)) {
		all = append(all, strings.TrimRight(l, ".\n"))
	}
	return all
}

func (r *rig) wantLines(path string, want ...string) {
	r.Helper()
	r.eventually("lines "+strings.Join(want, " "), func() (bool, any) {
		got := lines(path)
		return slices.Equal(got, want), got
	})
}

func (r *rig) recreateTopic(name string) {
	r.Helper()
	r.dropTopic(name)
	r.makeTopic(name)
	r.client.PurgeTopicsFromClient(name)
}

func (r *rig) consumerStats() *stats { return &r.agent.snapshot.Load().rows[0].c.stats }

// A fullSink accepts n chunks of records, then its disk is full.
type fullSink struct {
	sink.Sink
	n atomic.Int32
}

func (f *fullSink) Write(ctx context.Context, c sink.Chunk) error {
	if len(c.Data) > 0 && f.n.Add(-1) < 0 {
		return errors.New("no space left on device")
	}
	return f.Sink.Write(ctx, c)
}

// TestHandOverAndBackRepeatsNothingInAFile: one agent dies between a flush and its
// commit, another one goes on, not as far, and gives the partition back.
func TestHandOverAndBackRepeatsNothingInAFile(t *testing.T) {
	r := newFileRig(t, 1)
	dir := t.TempDir()
	here, there := filepath.Join(dir, "here.log"), filepath.Join(dir, "there.log")
	all := values("v", 0, 20, 20000)
	r.produce(0, all[:5]...)
	r.edit(toFile(here))
	r.wantCommitted(0, 5)
	var deaf atomic.Bool
	deaf.Store(true)
	r.cluster.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		return nil, errors.New("no commit"), deaf.Load()
	})
	r.produce(0, all[5:]...)
	r.eventually("a flush of all records", func() (bool, any) {
		c := r.consumer()
		return len(lines(here)) == 20 && c.Status == Failing, c
	})
	_ = r.stop()
	deaf.Store(false)

	r.open = func(ctx context.Context, s sink.Spec, o sink.Options) (sink.Sink, error) {
		out, err := sink.Open(ctx, s, o)
		f := &fullSink{Sink: out}
		f.n.Store(1)
		return f, err
	}
	r.start()
	r.edit(toFile(there))
	r.eventually("some records there", func() (bool, any) { n := len(lines(there)); return n > 0, n })
	r.eventually("their commit", func() (bool, any) { n := r.committed(0); return n > 5, n })
	if n := r.committed(0); n >= 20 {
		t.Fatalf("%d is committed: nothing is left for the other agent", n)
	}
	r.restart(sink.Open)
	r.edit(toFile(here))
	r.wantCommitted(0, 20)
	_ = r.stop()
	if got, want := lines(here), values("v", 0, 20, 0); !slices.Equal(got, want) {
		t.Errorf("the file holds %v, want each record once", got)
	}
}

// TestCommitFromAnotherClusterWins: a mirror tool copies offsets with their metadata to
// the cluster that the consumer is moved to.
func TestCommitFromAnotherClusterWins(t *testing.T) {
	for _, policy := range []string{"earliest", "latest"} {
		t.Run(policy, func(t *testing.T) {
			one, two := newFileRig(t, 1, kfake.ClusterID("one")), newFileRig(t, 1, kfake.ClusterID("two"))
			path := filepath.Join(t.TempDir(), "out.log")
			spec := ", on_offset_out_of_range: " + policy + toFile(path)
			all := values("v", 0, 16, 0)
			one.produce(0, all[:10]...)
			two.produce(0, all[:15]...) // what the mirror wrote, and what was produced after the fail-over
			one.edit(spec)
			one.wantCommitted(0, 10)
			_ = one.stop()
			two.commitExternally(0, 10, func() string { _, m := one.commitOf(0); return m }())
			two.edit(spec)
			two.wantStatus(Running)
			two.produce(0, all[15])
			two.wantCommitted(0, 16)
			two.wantLines(path, all...)
			if n := two.consumerStats().offsetResets.Load(); n != 0 {
				t.Errorf("%d resets are counted", n)
			}
		})
	}
}

// copyFile copies a data file with all files beside it.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	files, err := filepath.Glob(from + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to+strings.TrimPrefix(f, from), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCopiedFolderIsReported: a host with a copy of another one's file, or with a
// restored backup, resumes at the committed offset and reports what its file lacks.
func TestCopiedFolderIsReported(t *testing.T) {
	r := newFileRig(t, 2)
	dir := t.TempDir()
	here, there := filepath.Join(dir, "here.log"), filepath.Join(dir, "there.log")
	all := values("v", 0, 21, 0)
	for p := range int32(2) {
		r.produce(p, all[:10]...)
	}
	r.edit(toFile(here))
	r.wantCommitted(0, 10)
	r.wantCommitted(1, 10)
	_ = r.stop()
	copyFile(t, here, there)
	for p := range int32(2) {
		r.produce(p, all[10:20]...)
	}
	r.restart(sink.Open)
	r.edit(toFile(here))
	r.wantCommitted(0, 20)
	r.wantCommitted(1, 20)
	r.restart(sink.Open)
	r.edit(toFile(there))
	r.wantStatus(Running)
	for p := range int32(2) {
		if at, _ := r.commitOf(p); at != 20 {
			t.Errorf("the committed offset is %d, was 20", at)
		}
		r.produce(p, all[20])
		r.wantCommitted(p, 21)
	}
	if got := lines(there); len(got) != 22 || got[20] != all[20] || got[21] != all[20] {
		t.Errorf("the copy resumes with %v, want %s of both partitions", got[20:], all[20])
	}
	if log := r.log.String(); strings.Count(log, atCommitOfCopy.message) != 2 || !strings.Contains(log, `"from":10,"to":20,"gap":10`) ||
		!strings.Contains(log, "--topic t:0 --reset-offsets --to-offset 10") {
		t.Errorf("the log says\n%s", log)
	}
	_, metrics := get(t, r.agent.Handler(), http.MethodGet, "/metrics")
	if want := `kcagent_consumer_checkpoint_copies_total{consumer="c"} 2`; !strings.Contains(metrics, want) {
		t.Errorf("no metric %s", want)
	}

	// From now on it is a ledger of its own: a restart and a hand-over are ordinary.
	before := len(r.log.String())
	for _, path := range []string{there, here, there} {
		r.restart(sink.Open)
		r.edit(toFile(path))
		r.wantStatus(Running)
		r.produce(0, "more")
		r.eventually("the record", func() (bool, any) { l := lines(path); return l[len(l)-1] == "more", l })
	}
	_ = r.stop()
	if strings.Contains(r.log.String()[before:], atCommitOfCopy.message) {
		t.Error("an ordinary restart or hand-over is reported as a copy")
	}
}

// TestStartInARecreatedTopicIsChosenOnce: also by a paused consumer.
func TestStartInARecreatedTopicIsChosenOnce(t *testing.T) {
	for _, state := range []string{"paused", "running"} {
		t.Run(state, func(t *testing.T) {
			r := newFileRig(t, 1)
			path := filepath.Join(t.TempDir(), "out.log")
			spec := ", on_offset_out_of_range: latest" + toFile(path)
			r.produce(0, values("old", 0, 10, 0)...)
			r.edit(spec)
			r.wantCommitted(0, 10)
			_ = r.stop()
			r.recreateTopic("t")
			r.produce(0, values("new", 0, 5, 0)...)
			r.restart(sink.Open)
			r.edit(spec + ", state: " + state)
			r.wantStatus(State(strings.ToUpper(state)))
			if at := r.committed(0); at != 5 {
				t.Errorf("%s is shown, and %d is committed, want 5", strings.ToUpper(state), at)
			}
			if state == "running" {
				_ = r.stop()
			}
			r.produce(0, values("new", 5, 3, 0)...) // held back by the pause, and to be read after it
			r.restart(sink.Open)
			r.edit(spec + ", state: " + state)
			r.wantStatus(State(strings.ToUpper(state)))
			r.edit(spec)
			r.wantStatus(Running)
			r.produce(0, "new008")
			r.wantLines(path, append(values("old", 0, 10, 0), values("new", 5, 4, 0)...)...)
		})
	}
}

// TestAwaitedTopicSurvivesARestart: a named topic that does not exist is read from its
// first record, also if it is created while the agent is down.
func TestAwaitedTopicSurvivesARestart(t *testing.T) {
	r := newRig(t, 1)
	spec := ", topics: [t, later], start: latest"
	r.edit(spec)
	r.wantStatus(Failing)
	r.wantCommitted(0, 0)
	_ = r.stop()
	if _, m := r.commitOf(0); !strings.Contains(m, " awaits=later") {
		t.Errorf("the metadata is %q", m)
	}
	r.makeTopic("later")
	r.produceTo("later", "first")
	r.restart(nil)
	r.edit(spec)
	r.wantStatus(Running)
	r.wantRecords("later/0@0=first")
	r.eventually("metadata without the topic", func() (bool, any) {
		_, m := r.commitOf(0)
		return m != "" && !strings.Contains(m, "awaits"), m
	})
}

// TestLedgerHasEveryPositionFirst: before RUNNING or PAUSED is shown, and before the
// first record.
func TestLedgerHasEveryPositionFirst(t *testing.T) {
	for _, state := range []State{Running, Paused} {
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
					t.Errorf("%s is shown, and the durable ledger has %+v for partition %d", state, got, p)
				}
			}
			if r.memory.flushes > 3 {
				t.Errorf("%d flushes for three partitions", r.memory.flushes)
			}
		})
	}
}

// TestExternalCommitIsCommittedAgainFirst: nothing is stored on top of an offset that
// was committed externally before it is committed under a lineage.
func TestExternalCommitIsCommittedAgainFirst(t *testing.T) {
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
	if n := r.consumerStats().offsetResets.Load(); n != 1 || !strings.Contains(r.log.String(), atExternalReset.message) {
		t.Errorf("%d resets are counted", n)
	}
}

// TestLateCommitMovesNothingBack: a commit without a response arrives after the next
// one.
func TestLateCommitMovesNothingBack(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for five seconds")
	}
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
		t.Fatalf("the late commit has set %d", at)
	}
	r.wantCommitted(0, 2)
	if !strings.Contains(r.log.String(), "a late commit moved the committed offset back") {
		t.Error("the log does not say it")
	}
}

// TestResetBackIsCommittedFirst: a position out of range that moves back begins a new
// lineage, and is committed before the first record.
func TestResetBackIsCommittedFirst(t *testing.T) {
	r := newRig(t, 1)
	r.memory.keepsLedger = true
	r.produce(0, "a")
	r.edit("")
	r.wantCommitted(0, 1)
	_, before := r.commitOf(0)
	_ = r.stop()
	m, _ := parseMetadata(before)
	r.commitExternally(0, 9, before)
	r.memory.durable[sink.TopicPartition{Topic: "t"}] = sink.Position{Next: 9, Lineage: m.lineage, Topic: m.topic}
	r.restart(nil)
	r.edit("")
	r.wantRecords("t/0@0=a", "t/0@0=a")
	r.wantCommitted(0, 1)
	_, after := r.commitOf(0)
	if now, _ := parseMetadata(after); now.lineage == m.lineage {
		t.Errorf("the lineage is still %s", now.lineage)
	}
	if !slices.Contains(r.memory.adoptions, "t/0=0") {
		t.Errorf("adopted were %v", r.memory.adoptions)
	}
	_ = r.stop()
	r.restart(nil)
	r.edit("")
	r.wantStatus(Running)
	r.produce(0, "b")
	r.wantRecords("t/0@0=a", "t/0@0=a", "t/0@1=b")
	if n := r.consumerStats().ledgerCopies.Load(); n != 0 {
		t.Error("the reset is taken for a copied checkpoint")
	}
}

// TestBadFilesStopTheirPartitionsOnly: files that cannot be opened are named, and all
// other partitions flow; when they are healed, the rest flows, too, in the same
// generation.
func TestBadFilesStopTheirPartitionsOnly(t *testing.T) {
	r := newFileRig(t, 1)
	r.makeTopic("bad1")
	r.makeTopic("bad2")
	dir := t.TempDir()
	for i := range 2 {
		if err := os.Mkdir(filepath.Join(dir, fmt.Sprintf("bad%d.log", i+1)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.produceTo("bad1", "x")
	r.produceTo("bad2", "x")
	spec := ", topics: [bad1, bad2, t]" + toFile(filepath.Join(dir, "{topic}.log"))
	r.edit(spec)
	r.wantStatus(Failing)
	if e := *r.consumer().LastError; !strings.Contains(e, "bad") || !strings.Contains(e, dir) {
		t.Errorf("the error does not name the file: %s", e)
	}
	r.produce(0, "good")
	r.wantLines(filepath.Join(dir, "t.log"), "good")
	r.wantCommitted(0, 1)
	before := r.consumer()
	r.edit(spec + ", state: paused")
	r.eventually("a pause that is still an error", func() (bool, any) {
		c := r.consumer()
		return c.Desired == "paused" && c.Status == Failing, c
	})
	r.edit(spec)
	for i := range 2 {
		if err := os.Remove(filepath.Join(dir, fmt.Sprintf("bad%d.log", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	r.wantStatus(Running)
	r.wantLines(filepath.Join(dir, "bad1.log"), "x")
	r.wantLines(filepath.Join(dir, "bad2.log"), "x")
	if c := r.consumer(); c.Generation != before.Generation || c.RestartsTotal != 0 || c.RebalancesTotal != 1 {
		t.Errorf("it was %+v, is %+v", before, c)
	}
}

// TestFailedWritesHoldNoSlot: more partitions than a consumer has chunks fail to write,
// and the others flow. The consumer can be paused and stopped meanwhile.
func TestFailedWritesHoldNoSlot(t *testing.T) {
	r := newRig(t, chunksAtOnce+2)
	for p := range int32(chunksAtOnce + 1) {
		r.memory.failPartition(p, partitionFault{write: errors.New("disk full")})
		r.produce(p, "x")
	}
	r.edit("")
	r.wantStatus(Failing)
	r.produce(chunksAtOnce+1, "a")
	r.wantRecords(fmt.Sprintf("t/%d@0=a", chunksAtOnce+1))
	r.wantCommitted(chunksAtOnce+1, 1)
	generation := r.consumer().Generation
	r.edit(", state: paused")
	r.wantStatus(Paused)
	r.edit("")
	r.wantStatus(Failing)
	for p := range int32(chunksAtOnce + 1) {
		r.memory.failPartition(p, partitionFault{})
	}
	r.wantStatus(Running)
	for p := range int32(chunksAtOnce + 1) {
		r.wantCommitted(p, 1)
	}
	if got := r.consumer().Generation; got != generation {
		t.Errorf("the generation is %d, was %d", got, generation)
	}
	if n := len(r.memory.all()); n != chunksAtOnce+2 {
		t.Errorf("there are %d records", n)
	}
}

// TestReopenConcernsOnePartition: a partition whose unsafe records were dropped reads
// them again, with a ledger and without, in the same generation.
func TestReopenConcernsOnePartition(t *testing.T) {
	for _, ledger := range []bool{true, false} {
		t.Run(fmt.Sprintf("ledger=%v", ledger), func(t *testing.T) {
			r := newRig(t, 2)
			r.memory.keepsLedger = ledger
			r.edit("")
			r.produce(0, "a")
			r.produce(1, "a")
			r.wantCommitted(0, 1)
			r.wantCommitted(1, 1)
			before := r.consumer()
			r.memory.failPartition(0, partitionFault{flush: fmt.Errorf("sync: %w", sink.ErrReopen)})
			r.produce(0, "b")
			r.wantStatus(Failing)
			if e := *r.consumer().LastError; !strings.Contains(e, "sync") {
				t.Errorf("the error is %q", e)
			}
			r.produce(1, "b")
			r.wantCommitted(1, 2)
			if at := r.committed(0); at != 1 {
				t.Errorf("%d is committed, and nothing after 1 is safe", at)
			}
			r.memory.failPartition(0, partitionFault{})
			r.wantCommitted(0, 2)
			r.wantStatus(Running)
			r.wantSorted("t/0@0=a", "t/0@1=b", "t/1@0=a", "t/1@1=b")
			if c := r.consumer(); c.Generation != before.Generation || c.RestartsTotal != 0 || r.memory.opens != 1 {
				t.Errorf("it was %+v, is %+v after %d opens", before, c, r.memory.opens)
			}
			if n := r.consumerStats().offsetResets.Load(); n != 0 {
				t.Errorf("%d resets are counted", n)
			}
		})
	}
}

// TestFlushErrorsConcernTheirPartitions: what can be flushed is committed.
func TestFlushErrorsConcernTheirPartitions(t *testing.T) {
	r := newRig(t, 2)
	r.memory.failPartition(0, partitionFault{flush: errors.New("disk on fire")})
	r.edit("")
	r.produce(0, "a")
	r.produce(1, "a")
	r.wantStatus(Failing)
	r.wantCommitted(1, 1)
	r.produce(1, "b")
	r.wantCommitted(1, 2)
	if at := r.committed(0); at > 0 {
		t.Errorf("%d is committed", at)
	}
	r.memory.failPartition(0, partitionFault{})
	r.wantCommitted(0, 1)
	r.wantStatus(Running)
}

// TestSinkLearnsWhetherTheConsumerEnds: files are completed at the end of a consumer,
// and not when the agent is restarted.
func TestSinkLearnsWhetherTheConsumerEnds(t *testing.T) {
	r := newRig(t, 1)
	r.edit("")
	r.wantStatus(Running)
	r.edit(", state: stopped")
	r.wantStatus(Created)
	r.edit("")
	r.wantStatus(Running)
	_ = r.stop()
	if !slices.Equal(r.memory.ended, []bool{true, false}) {
		t.Errorf("it was told %v", r.memory.ended)
	}
}

// TestChunksEndWithTheRoomOfTheSink: so that a file is completed at its size.
func TestChunksEndWithTheRoomOfTheSink(t *testing.T) {
	r := newRig(t, 1)
	r.memory.room = 1
	r.produce(0, "a", "b", "c")
	chunks := make(chan int, 10)
	r.open = func(ctx context.Context, s sink.Spec, o sink.Options) (sink.Sink, error) {
		if o.Consumer != "c" || o.Group != "kcagent-c" {
			t.Errorf("the options are %+v", o)
		}
		out, err := r.memory.open(ctx, s, o)
		return countingSink{out, chunks}, err
	}
	r.restart(r.open)
	r.edit("")
	r.wantRecords("t/0@0=a", "t/0@1=b", "t/0@2=c")
	for range 3 {
		if n := <-chunks; n != 1 {
			t.Errorf("a chunk has %d records", n)
		}
	}
}

type countingSink struct {
	sink.Sink
	records chan int
}

func (s countingSink) Write(ctx context.Context, c sink.Chunk) error {
	if n := strings.Count(string(c.Data), "\n"); n > 0 {
		s.records <- n
	}
	return s.Sink.Write(ctx, c)
}

func TestFlushesAreAligned(t *testing.T) {
	for _, interval := range []time.Duration{20 * time.Millisecond, time.Second, time.Minute, time.Nanosecond, 0} {
		grid := min(interval/20, 50*time.Millisecond)
		for i := range 100 {
			since := epoch.Add(time.Duration(i-50) * 7777777 * time.Nanosecond)
			at := flushAt(since, interval)
			if late := at.Sub(since.Add(interval)); late > 0 || -late > max(grid, 0) {
				t.Errorf("interval %s: a flush is %s late", interval, late)
			}
			if grid > 0 && at.Sub(epoch)%grid != 0 {
				t.Errorf("interval %s: %s is not on the grid", interval, at.Sub(epoch))
			}
		}
	}
}
