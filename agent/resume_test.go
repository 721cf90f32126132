package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/agent/offsets"
	"kcagent/sink"
	"kcagent/sink/kinds"
)

// newFileRig returns a rig with the real file sink.
func newFileRig(t *testing.T, partitions int32, opts ...kfake.Opt) *rig {
	t.Helper()
	r := newRig(t, partitions, opts...)
	_ = r.stop()
	r.open = kinds.Open
	r.start()
	return r
}

// restart stops the agent and starts another one, which opens sinks with open.
func (r *rig) restart(open consumer.OpenSink) {
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

// values returns n distinct values of at least pad bytes.
func values(prefix string, from, n, pad int) []string {
	var vs []string
	for i := range n {
		vs = append(vs, fmt.Sprintf("%s%03d%s", prefix, from+i, strings.Repeat(".", pad)))
	}
	return vs
}

// lines returns the lines of a file without the padding.
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

// A fullSink accepts n chunks of records. Then its disk is full.
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

// failCommits makes every commit fail until allow is called.
func (r *rig) failCommits() (allow func()) {
	var fails atomic.Bool
	fails.Store(true)
	r.cluster.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		return nil, errors.New("no commit"), fails.Load()
	})
	return func() { fails.Store(false) }
}

// TestHandOverAndBackRepeatsNothingInAFile: one agent crashes between a flush and
// its commit. Another one continues, up to a lower offset, and gives the partition back.
func TestHandOverAndBackRepeatsNothingInAFile(t *testing.T) {
	r := newFileRig(t, 1)
	dir := t.TempDir()
	here, there := filepath.Join(dir, "here.log"), filepath.Join(dir, "there.log")
	all := values("v", 0, 20, 20000)
	r.produce(0, all[:5]...)
	r.edit(toFile(here))
	r.wantCommitted(0, 5)
	allow := r.failCommits()
	r.produce(0, all[5:]...)
	r.eventually("a flush of all records", func() (bool, any) {
		c := r.consumer()
		return len(lines(here)) == 20 && c.Status == consumer.Failing, c
	})
	_ = r.stop()
	allow()

	r.open = func(ctx context.Context, s sink.Spec, o sink.Options) (sink.Sink, error) {
		out, err := kinds.Open(ctx, s, o)
		f := &fullSink{Sink: out}
		f.n.Store(1)
		return f, err
	}
	r.start()
	r.edit(toFile(there))
	r.eventually("some records there", func() (bool, any) { n := len(lines(there)); return n > 0, n })
	r.eventually("their commit", func() (bool, any) { n := r.committed(0); return n > 5, n })
	if n := r.committed(0); n >= 20 {
		t.Fatalf("%d is committed: the other agent has nothing to read", n)
	}
	r.restart(kinds.Open)
	r.edit(toFile(here))
	r.wantCommitted(0, 20)
	_ = r.stop()
	if got, want := lines(here), values("v", 0, 20, 0); !slices.Equal(got, want) {
		t.Errorf("the file contains %v, want each record once", got)
	}
}

// TestNoRecordIsStoredBeforeTheFirstCommit: without a committed offset the next member would
// start another lineage, and once the partition returned, the file would repeat records.
func TestNoRecordIsStoredBeforeTheFirstCommit(t *testing.T) {
	r := newFileRig(t, 1)
	dir := t.TempDir()
	here, there := filepath.Join(dir, "here.log"), filepath.Join(dir, "there.log")
	allow := r.failCommits()
	r.produce(0, values("v", 0, 20, 20000)...)
	r.edit(toFile(here))
	r.wantStatus(consumer.Failing) // the first commit has failed
	for range 30 {
		if got := lines(here); len(got) > 0 {
			t.Errorf("%d records are stored", len(got))
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = r.stop()
	allow()

	r.open = func(ctx context.Context, s sink.Spec, o sink.Options) (sink.Sink, error) {
		out, err := kinds.Open(ctx, s, o)
		f := &fullSink{Sink: out}
		f.n.Store(1)
		return f, err
	}
	r.start()
	r.edit(toFile(there))
	var at int64
	r.eventually("a commit of the other agent", func() (bool, any) { at = r.committed(0); return at > 0, at })
	r.restart(kinds.Open)
	r.edit(toFile(here))
	r.wantCommitted(0, 20)
	_ = r.stop()
	if got, want := lines(here), values("v", int(at), 20-int(at), 0); !slices.Equal(got, want) {
		t.Errorf("the file contains %v, want each record from %d once", got, at)
	}
}

// TestNextGenerationCommitsOnlyWhatWasFlushed: a generation ends while its flushes fail,
// so that the ledger is ahead of the checkpoint when the next one starts.
func TestNextGenerationCommitsOnlyWhatWasFlushed(t *testing.T) {
	r := newRig(t, 1)
	r.makeTopic("u")
	r.memory.keepsLedger = true
	r.produce(0, "a", "b")
	r.edit(", topics: [t, u]")
	r.wantStatus(consumer.Running)
	r.wantCommitted(0, 2)
	r.memory.failPartition(0, partitionFault{flush: errors.New("input/output error")})
	r.produce(0, "c", "d")
	r.wantStatus(consumer.Failing)
	r.wantRecords("t/0@0=a", "t/0@1=b", "t/0@2=c", "t/0@3=d")
	r.edit("")
	r.eventually("a failed flush of the next generation", func() (bool, any) {
		at, c := r.committed(0), r.consumer()
		if at != 2 {
			r.Fatalf("%d is committed, and no flush after 2 has succeeded", at)
		}
		return len(c.Partitions) == 1 && c.Status == consumer.Failing && c.Partitions[0].NextOffset == 4, c
	})
	r.stillOnly("t/0@0=a", "t/0@1=b", "t/0@2=c", "t/0@3=d")
	if at := r.committed(0); at != 2 {
		t.Errorf("%d is committed, and no flush after 2 has succeeded", at)
	}
	r.memory.failPartition(0, partitionFault{})
	r.wantCommitted(0, 4)
	r.wantStatus(consumer.Running)
}

// TestCommitFromAnotherClusterWins: a mirror tool copies offsets with their metadata to the
// cluster that the consumer is moved to.
func TestCommitFromAnotherClusterWins(t *testing.T) {
	for _, policy := range []string{"earliest", "latest"} {
		t.Run(policy, func(t *testing.T) {
			one, two := newFileRig(t, 1, kfake.ClusterID("one")), newFileRig(t, 1, kfake.ClusterID("two"))
			path := filepath.Join(t.TempDir(), "out.log")
			spec := ", on_offset_out_of_range: " + policy + toFile(path)
			all := values("v", 0, 16, 0)
			one.produce(0, all[:10]...)
			two.produce(0, all[:15]...) // mirrored records, and those produced after the fail-over
			one.edit(spec)
			one.wantCommitted(0, 10)
			_ = one.stop()
			two.commitExternally(0, 10, func() string { _, m := one.commitOf(0); return m }())
			two.edit(spec)
			two.wantStatus(consumer.Running)
			two.produce(0, all[15])
			two.wantCommitted(0, 16)
			two.wantLines(path, all...)
			if n := two.counters().OffsetResets; n != 0 {
				t.Errorf("%d resets are counted", n)
			}
		})
	}
}

// copyFile copies a data file together with its checkpoint.
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

// TestCopiedFolderIsReported: a host with a copy of another host's file, or with a
// restored backup, resumes at the committed offset and reports which records its file lacks.
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
	r.restart(kinds.Open)
	r.edit(toFile(here))
	r.wantCommitted(0, 20)
	r.wantCommitted(1, 20)
	r.restart(kinds.Open)
	r.edit(toFile(there))
	r.wantStatus(consumer.Running)
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
	if log := r.log.String(); strings.Count(log, offsets.AtCommitOfCopy.Message) != 2 || !strings.Contains(log, `"from":10,"to":20,"gap":10`) ||
		!strings.Contains(log, "--topic t:0 --reset-offsets --to-offset 10") {
		t.Errorf("the log says\n%s", log)
	}
	metrics := r.metrics()
	if want := `kcagent_consumer_checkpoint_copies_total{consumer="c"} 2`; !strings.Contains(metrics, want) {
		t.Errorf("no metric %s", want)
	}

	// From now on the ledger has an id of its own: a restart and a hand-over are ordinary.
	before := len(r.log.String())
	for _, path := range []string{there, here, there} {
		r.restart(kinds.Open)
		r.edit(toFile(path))
		r.wantStatus(consumer.Running)
		r.produce(0, "more")
		r.eventually("the record", func() (bool, any) { l := lines(path); return l[len(l)-1] == "more", l })
	}
	_ = r.stop()
	if strings.Contains(r.log.String()[before:], offsets.AtCommitOfCopy.Message) {
		t.Error("an ordinary restart or hand-over is reported as a copy")
	}
}

// TestHandOverAfterACopyIsOrdinary: a copy that was reported has an id of its own, also if
// each partition has its own file. The original may continue, and hand the partitions over.
func TestHandOverAfterACopyIsOrdinary(t *testing.T) {
	r := newFileRig(t, 2)
	dir := t.TempDir()
	path := func(host string, p int) string { return filepath.Join(dir, host, fmt.Sprintf("t-%d.log", p)) }
	spec := func(host string) string { return toFile(filepath.Join(dir, host, "{topic}-{partition}.log")) }
	all := values("v", 0, 40, 0)
	turn := func(host string, from, to int) {
		t.Helper()
		_ = r.stop()
		for p := range int32(2) {
			r.produce(p, all[from:to]...)
		}
		r.restart(kinds.Open)
		r.edit(spec(host))
		r.wantCommitted(0, int64(to))
		r.wantCommitted(1, int64(to))
	}
	turn("a", 0, 10)
	_ = r.stop()
	if err := os.Mkdir(filepath.Join(dir, "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, 2) // of the originals
	for p := range 2 {
		copyFile(t, path("a", p), path("b", p))
		_, text := r.commitOf(int32(p))
		m, _ := offsets.ParseMetadata(text)
		ids[p] = m.Ledger
	}
	turn("a", 10, 20)
	turn("b", 20, 30)
	if n := strings.Count(r.log.String(), offsets.AtCommitOfCopy.Message); n != 2 {
		t.Fatalf("%d copies are reported, want 2", n)
	}
	// The same consumer loses its partitions to the original, and gets them back: state:
	// stopped keeps the consumer, as a rebalance does.
	r.edit(spec("b") + ", state: stopped")
	r.wantStatus(consumer.Created)
	for p := range int32(2) {
		r.produce(p, all[30:]...)
		_, text := r.commitOf(p)
		m, _ := offsets.ParseMetadata(text)
		m.Ledger = ids[p]
		r.commitExternally(p, 40, m.String())
	}
	r.edit(spec("b"))
	r.wantStatus(consumer.Running)
	if n := strings.Count(r.log.String(), offsets.AtCommitOfCopy.Message); n != 2 {
		t.Errorf("%d copies are reported after an ordinary hand-over, want 2", n)
	}
}

// removeFile removes a data file together with its checkpoint.
func removeFile(t *testing.T, path string) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestoredBackupIsReported: it is reported also if it is older than an offset reset, or
// than the first record of a partition.
func TestRestoredBackupIsReported(t *testing.T) {
	for when, want := range map[string]offsets.Reason{"before a reset": offsets.AtMismatch, "before the first record": offsets.AtCommitOfCopy} {
		t.Run(when, func(t *testing.T) {
			r := newFileRig(t, 1)
			r.makeTopic("u")
			dir := t.TempDir()
			path, backup := filepath.Join(dir, "out.log"), filepath.Join(dir, "backup.log")
			both := ", topics: [t, u]" + toFile(path)
			r.produceTo("u", "u0")
			r.produce(0, "t0", "t1", "t2")
			if want == offsets.AtMismatch {
				r.edit(both)
				r.wantCommitted(0, 3)
			} else {
				r.edit(", topics: [u]" + toFile(path))
			}
			r.wantStatus(consumer.Running)
			r.eventually("u0", func() (bool, any) { l := lines(path); return slices.Contains(l, "u0"), l })
			_ = r.stop()
			copyFile(t, path, backup)
			if want == offsets.AtMismatch {
				r.commitExternally(0, 1, "")
			}
			r.restart(kinds.Open)
			r.edit(both)
			r.wantStatus(consumer.Running)
			r.produce(0, "t3", "t4")
			r.wantCommitted(0, 5)
			_ = r.stop()
			removeFile(t, path)
			copyFile(t, backup, path)
			before := len(r.log.String())
			r.start()
			r.edit(both)
			r.wantStatus(consumer.Running)
			if n := r.counters().CheckpointCopies; n != 1 {
				t.Errorf("%d partitions are counted, want that of t", n)
			}
			r.produce(0, "t5")
			r.wantCommitted(0, 6)
			_ = r.stop()
			if log := r.log.String()[before:]; strings.Count(log, want.Message) != 1 {
				t.Errorf("the file holds %v, and the log says\n%s", lines(path), log)
			}
		})
	}
}

// TestStartInARecreatedTopicIsChosenOnce: that applies to a paused consumer, too.
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
			r.restart(kinds.Open)
			r.edit(spec + ", state: " + state)
			r.wantStatus(consumer.State(strings.ToUpper(state)))
			if at := r.committed(0); at != 5 {
				t.Errorf("the consumer is %s, and %d is committed, want 5", strings.ToUpper(state), at)
			}
			if state == "running" {
				_ = r.stop()
			}
			r.produce(0, values("new", 5, 3, 0)...) // to be read after the pause
			r.restart(kinds.Open)
			r.edit(spec + ", state: " + state)
			r.wantStatus(consumer.State(strings.ToUpper(state)))
			r.edit(spec)
			r.wantStatus(consumer.Running)
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
	r.wantStatus(consumer.Failing)
	r.wantCommitted(0, 0)
	_ = r.stop()
	if _, m := r.commitOf(0); !strings.Contains(m, " awaits=later") {
		t.Errorf("the metadata is %q", m)
	}
	r.makeTopic("later")
	r.produceTo("later", "first")
	r.restart(nil)
	r.edit(spec)
	r.wantStatus(consumer.Running)
	r.wantRecords("later/0@0=first")
	r.eventually("metadata without the topic", func() (bool, any) {
		_, m := r.commitOf(0)
		return m != "" && !strings.Contains(m, "awaits"), m
	})
}
