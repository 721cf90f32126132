package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/agent/generation"
	"kcagent/agent/offsets"
	"kcagent/sink"
	"kcagent/sink/kinds"
)

// TestUnusableFileStopsItsPartitionOnly: files that cannot be opened are named, and all
// other partitions are consumed. Once the files can be opened, their partitions are
// consumed in the same generation.
func TestUnusableFileStopsItsPartitionOnly(t *testing.T) {
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
	failing := r.wantStatus(consumer.Failing)
	if e := *failing.LastError; !strings.Contains(e, "bad") || !strings.Contains(e, dir) {
		t.Errorf("the error does not name the file: %s", e)
	}
	r.produce(0, "good")
	r.wantLines(filepath.Join(dir, "t.log"), "good")
	r.wantCommitted(0, 1)
	before := r.consumer()
	r.edit(spec + ", state: paused")
	r.eventually("a pause that is still an error", func() (bool, any) {
		c := r.consumer()
		return c.Desired == "paused" && c.Status == consumer.Failing, c
	})
	r.edit(spec)
	for i := range 2 {
		if err := os.Remove(filepath.Join(dir, fmt.Sprintf("bad%d.log", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	r.wantStatus(consumer.Running)
	r.wantLines(filepath.Join(dir, "bad1.log"), "x")
	r.wantLines(filepath.Join(dir, "bad2.log"), "x")
	if c := r.consumer(); c.Generation != before.Generation || c.RestartsTotal != 0 || c.RebalancesTotal != 1 {
		t.Errorf("the consumer was %+v, and is %+v", before, c)
	}
}

// TestMovingStartIsCommittedWhileTheFileIsUnusable: records that are produced while the file
// of a new partition cannot be opened are not skipped with any start policy. A restart
// changes nothing.
func TestMovingStartIsCommittedWhileTheFileIsUnusable(t *testing.T) {
	for _, start := range []string{"latest", time.Now().Add(time.Hour).UTC().Format(time.RFC3339)} {
		for _, delivery := range []string{"exactly_once", "at_least_once"} {
			t.Run(start+" "+delivery, func(t *testing.T) {
				r := newFileRig(t, 1)
				r.makeTopic("x")
				dir := t.TempDir()
				path := filepath.Join(dir, "t.log")
				if err := os.Mkdir(path, 0o700); err != nil {
					t.Fatal(err)
				}
				spec := ", topics: [t, x], start: '" + start + "', flush: {interval: 20ms}, sink: {file: {path: '" +
					filepath.Join(dir, "{topic}.log") + "', delivery: " + delivery + "}}"
				r.produce(0, "old")
				r.edit(spec)
				r.wantCommitted(0, 1)
				r.wantStatus(consumer.Failing)
				_, text := r.commitOf(0)
				if m, ok := offsets.ParseMetadata(text); !ok || !m.EarlyStart || m.Lineage == "" || m.Ledger != "" {
					t.Errorf("the metadata is %q", text)
				}
				r.produce(0, "a")
				r.restart(kinds.Open)
				r.edit(spec)
				r.wantStatus(consumer.Failing)
				r.produce(0, "b")
				if at := r.committed(0); at != 1 {
					t.Errorf("%d is committed after the restart, was 1", at)
				}
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				r.wantStatus(consumer.Running)
				r.produce(0, "c")
				r.wantLines(path, "a", "b", "c")
				r.wantCommitted(0, 4)
				_, after := r.commitOf(0)
				was, _ := offsets.ParseMetadata(text)
				if m, _ := offsets.ParseMetadata(after); m.EarlyStart || m.Lineage != was.Lineage {
					t.Errorf("the metadata is %q, was %q", after, text)
				}
			})
		}
	}
}

// moveFile moves a data file together with its checkpoint.
func moveFile(t *testing.T, from, to string) {
	t.Helper()
	copyFile(t, from, to)
	removeFile(t, from)
}

// deleteOffsets deletes all committed offsets of the group.
func (r *rig) deleteOffsets() {
	r.Helper()
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Groups = []string{"kcagent-c"}
	resp, err := req.RequestWith(context.Background(), r.client)
	if err != nil || resp.Groups[0].ErrorCode != 0 {
		r.Fatal(err, resp)
	}
}

// TestLedgerWinsOverAnEarlyStart: a start offset was committed because the file could
// not be opened. Once it can, the consumer resumes at its end, as after any deletion of
// committed offsets.
func TestLedgerWinsOverAnEarlyStart(t *testing.T) {
	r := newFileRig(t, 1)
	dir := t.TempDir()
	path, away := filepath.Join(dir, "t.log"), filepath.Join(t.TempDir(), "t.log")
	spec := ", start: latest" + toFile(filepath.Join(dir, "{topic}.log"))
	r.edit(spec)
	r.wantStatus(consumer.Running)
	r.produce(0, "a", "b")
	r.wantCommitted(0, 2)
	_ = r.stop()
	r.deleteOffsets()
	moveFile(t, path, away)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	r.produce(0, "c")
	r.start()
	r.edit(spec)
	r.wantStatus(consumer.Failing)
	r.wantCommitted(0, 3)
	r.produce(0, "d")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	moveFile(t, away, path)
	r.wantStatus(consumer.Running)
	r.wantLines(path, "a", "b", "c", "d")
	r.wantCommitted(0, 4)
	if log := r.log.String(); !strings.Contains(log, offsets.AtLedgerNotEarlyStart.Message) {
		t.Errorf("the log says\n%s", log)
	}
}

// TestEndOfRecreatedTopicIsCommittedWhileTheFileIsUnusable: with
// on_offset_out_of_range latest, the partition starts at the end that the new topic has when
// the consumer starts, rather than when the file can be opened.
func TestEndOfRecreatedTopicIsCommittedWhileTheFileIsUnusable(t *testing.T) {
	r := newFileRig(t, 1)
	dir := t.TempDir()
	path, away := filepath.Join(dir, "t.log"), filepath.Join(t.TempDir(), "t.log")
	spec := ", on_offset_out_of_range: latest" + toFile(filepath.Join(dir, "{topic}.log"))
	r.produce(0, "old0", "old1", "old2")
	r.edit(spec)
	r.wantCommitted(0, 3)
	_ = r.stop()
	_, old := r.commitOf(0)
	moveFile(t, path, away)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	r.recreateTopic("t")
	r.commitExternally(0, 3, old) // a broker that keeps the offsets of deleted topics
	r.produce(0, "new0")
	r.start()
	r.edit(spec)
	r.wantCommitted(0, 1)
	r.wantStatus(consumer.Failing)
	r.produce(0, "new1")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	moveFile(t, away, path)
	r.wantStatus(consumer.Running)
	r.wantLines(path, "old0", "old1", "old2", "new1")
}

// TestEarlyStartNeedsNoSink: a start offset is committed although every flush fails.
func TestEarlyStartNeedsNoSink(t *testing.T) {
	r := newRig(t, 2)
	r.memory.keepsLedger = true
	r.memory.fail(nil, errors.New("disk on fire"))
	r.memory.failPartition(0, partitionFault{open: errors.New("cannot open")})
	r.produce(0, "old")
	r.edit(", start: latest")
	r.wantStatus(consumer.Failing)
	r.wantCommitted(0, 1)
	r.produce(0, "a")
	r.memory.failPartition(0, partitionFault{})
	r.memory.fail(nil, nil)
	r.wantStatus(consumer.Running)
	r.wantRecords("t/0@1=a")
	if n := r.counters().OffsetStarts; n != 2 {
		t.Errorf("the start policy was applied to %d partitions, want 2", n)
	}
}

// TestAwaitedTopicWithUnusableFileStaysAwaited: commits name a topic that was created
// later until it has a committed offset. So it is read from its first record, also if its
// file could not be opened at first and the agent was restarted meanwhile.
func TestAwaitedTopicWithUnusableFileStaysAwaited(t *testing.T) {
	r := newFileRig(t, 1)
	dir := t.TempDir()
	path := filepath.Join(dir, "x.log")
	spec := ", topics: [t, x], start: latest" + toFile(filepath.Join(dir, "{topic}.log"))
	awaited := func() (bool, any) { _, m := r.commitOf(0); return strings.Contains(m, "awaits=x"), m }
	r.edit(spec)
	r.eventually("a commit that names the topic", awaited)
	_ = r.stop()
	r.makeTopic("x")
	r.produceTo("x", "x0", "x1")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.edit(spec)
	r.wantStatus(consumer.Failing)
	r.produce(0, "t0")
	r.wantCommitted(0, 1)
	if named, m := awaited(); !named {
		t.Errorf("nothing of x is committed, and the metadata is %q", m)
	}
	_ = r.stop()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.edit(spec)
	r.wantStatus(consumer.Running)
	r.produceTo("x", "x2")
	r.wantLines(path, "x0", "x1", "x2")
}

// TestFailedWritesDoNotBlockOtherPartitions: writes fail for more partitions than a
// consumer has chunks, and the others are consumed. The consumer can be paused and stopped
// meanwhile.
func TestFailedWritesDoNotBlockOtherPartitions(t *testing.T) {
	chunks := int32(generation.ChunksAtOnce())
	r := newRig(t, chunks+2)
	for p := range chunks + 1 {
		r.memory.failPartition(p, partitionFault{write: errors.New("disk full")})
		r.produce(p, "x")
	}
	r.edit("")
	r.wantStatus(consumer.Failing)
	r.produce(chunks+1, "a")
	r.wantRecords(fmt.Sprintf("t/%d@0=a", chunks+1))
	r.wantCommitted(chunks+1, 1)
	gen := r.consumer().Generation
	r.edit(", state: paused")
	r.wantStatus(consumer.Paused)
	r.edit("")
	r.wantStatus(consumer.Failing)
	for p := range chunks + 1 {
		r.memory.failPartition(p, partitionFault{})
	}
	r.wantStatus(consumer.Running)
	for p := range chunks + 1 {
		r.wantCommitted(p, 1)
	}
	if got := r.consumer().Generation; got != gen {
		t.Errorf("the generation is %d, was %d", got, gen)
	}
	if n := len(r.memory.all()); n != int(chunks)+2 {
		t.Errorf("there are %d records", n)
	}
}

// TestReopenAffectsOnePartition: a partition whose unflushed records were dropped reads them
// again in the same generation, with a ledger and without.
func TestReopenAffectsOnePartition(t *testing.T) {
	for _, ledger := range []bool{true, false} {
		t.Run(fmt.Sprintf("ledger=%v", ledger), func(t *testing.T) {
			r := newRig(t, 2)
			r.memory.keepsLedger = ledger
			r.edit("")
			r.produce(0, "a")
			r.produce(1, "a")
			r.wantCommitted(0, 1)
			r.wantCommitted(1, 1)
			before := r.wantStatus(consumer.Running)
			r.memory.failPartition(0, partitionFault{flush: fmt.Errorf("sync: %w", sink.ErrReopen)})
			r.produce(0, "b")
			failing := r.wantStatus(consumer.Failing)
			if e := *failing.LastError; !strings.Contains(e, "sync") {
				t.Errorf("the error is %q", e)
			}
			r.produce(1, "b")
			r.wantCommitted(1, 2)
			if at := r.committed(0); at != 1 {
				t.Errorf("%d is committed, and nothing after 1 is flushed", at)
			}
			r.memory.failPartition(0, partitionFault{})
			r.wantCommitted(0, 2)
			r.wantStatus(consumer.Running)
			r.wantSorted("t/0@0=a", "t/0@1=b", "t/1@0=a", "t/1@1=b")
			if c := r.consumer(); c.Generation != before.Generation || c.RestartsTotal != 0 || r.memory.opens != 1 {
				t.Errorf("the consumer was %+v, and is %+v after %d opens", before, c, r.memory.opens)
			}
			if n := r.counters().OffsetResets; n != 0 {
				t.Errorf("%d resets are counted", n)
			}
		})
	}
}

// TestFlushErrorsAffectTheirPartitionsOnly: the other partitions are committed.
func TestFlushErrorsAffectTheirPartitionsOnly(t *testing.T) {
	r := newRig(t, 2)
	r.memory.failPartition(0, partitionFault{flush: errors.New("disk on fire")})
	r.edit("")
	r.produce(0, "a")
	r.produce(1, "a")
	r.wantStatus(consumer.Failing)
	r.wantCommitted(1, 1)
	r.produce(1, "b")
	r.wantCommitted(1, 2)
	if at := r.committed(0); at > 0 {
		t.Errorf("%d is committed", at)
	}
	r.memory.failPartition(0, partitionFault{})
	r.wantCommitted(0, 1)
	r.wantStatus(consumer.Running)
}

// TestFlushErrorsAreRetriedWithoutNewRecords: a flush is retried also if nothing was
// written to its partition, as when a file cannot be completed.
func TestFlushErrorsAreRetriedWithoutNewRecords(t *testing.T) {
	r := newRig(t, 2)
	r.produce(0, "a")
	r.edit("")
	r.wantCommitted(0, 1)
	r.memory.failPartition(0, partitionFault{flush: errors.New("disk on fire")})
	r.produce(1, "a")
	r.wantStatus(consumer.Failing)
	r.wantCommitted(1, 1)
	r.memory.failPartition(0, partitionFault{})
	r.wantStatus(consumer.Running)
}

// TestCloseDistinguishesEndOfConsumerFromEndOfAgent: files are completed at the end of
// a consumer, and not when the agent is restarted.
func TestCloseDistinguishesEndOfConsumerFromEndOfAgent(t *testing.T) {
	r := newRig(t, 1)
	r.edit("")
	r.wantStatus(consumer.Running)
	r.edit(", state: stopped")
	r.wantStatus(consumer.Created)
	r.edit("")
	r.wantStatus(consumer.Running)
	_ = r.stop()
	if !slices.Equal(r.memory.ended, []bool{true, false}) {
		t.Errorf("Close was called with %v", r.memory.ended)
	}
}

// TestChunkEndsAtTheRoomOfTheSink: otherwise a file could not be completed at its size.
func TestChunkEndsAtTheRoomOfTheSink(t *testing.T) {
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
