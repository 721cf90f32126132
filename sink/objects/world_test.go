package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"kcagent/sink"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/objects/spool"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/store/storetest"
	"kcagent/sink/sinktest"
)

// A world is what remains after a crash of an agent: Kafka with the log and the committed offsets, and
// the store.
type world struct {
	*testing.T
	store     *storetest.Memory
	spec      sink.ObjectsSpec
	topic     sink.Identity
	log       map[sink.TopicPartition][]*sink.Record // by offset; nil was removed
	committed map[sink.TopicPartition]sink.Commit
	logger    *slog.Logger
	now       func() time.Time // the clock of the members; nil is the real one
}

// logTo writes the log of the members that join from now on.
func (w *world) logTo(to io.Writer) { w.logger = slog.New(slog.NewTextHandler(to, nil)) }

// errDenied is the error of a store that lacks a permission.
var errDenied = &store.PermissionError{Permission: "s3:AbortMultipartUpload", Err: errors.New("access denied")}

const testKey = "{topic}/{partition}-{first}-{last}-{topic_id}"

// newWorld returns a world whose topic has a number of partitions with records.
func newWorld(t *testing.T, partitions, records int) *world {
	w := &world{
		T: t, store: storetest.NewMemory(true),
		spec: sink.ObjectsSpec{
			URL: "memory://lake", Key: testKey, TimeZone: "UTC", Format: sink.Raw, Compression: sink.Uncompressed, Delivery: sink.ExactlyOnce,
			Rotate: sink.ObjectRotate{Size: 1 << 20, Every: 10 * time.Minute}, Spool: t.TempDir(),
		},
		topic:     sink.Identity{Cluster: "cluster-1", Topic: "topicid-1"},
		log:       make(map[sink.TopicPartition][]*sink.Record),
		committed: make(map[sink.TopicPartition]sink.Commit),
	}
	for p := range partitions {
		w.produce(int32(p), records)
	}
	return w
}

func partitionOf(p int32) sink.TopicPartition {
	return sink.TopicPartition{Topic: "orders", Partition: p}
}

// produce appends records to a partition.
func (w *world) produce(p int32, n int) {
	tp := partitionOf(p)
	for _, r := range sinktest.Records(p, len(w.log[tp]), n) {
		w.log[tp] = append(w.log[tp], &r)
	}
}

// opener opens the store without faults.
func (w *world) opener() Opener {
	return func(context.Context, *sink.ObjectsSpec) (store.Store, error) { return w.store.Again(nil), nil }
}

// A member is an agent that has all partitions.
type member struct {
	*world
	sink    sink.Sink
	options sink.Options
	fsys    *disktest.FaultFS
	next    map[sink.TopicPartition]int64
	plans   map[sink.TopicPartition]*sink.Plan // that are completed
	beyond  int64                              // how far the position is beyond the end of a plan that was read to its end
	dead    atomic.Bool
	crashes func(at string) bool // reports that the agent crashes now; nil is never
	due     atomic.Int32
	ready   atomic.Int32
}

// join opens a sink whose calls of the store have faults, and resumes all partitions. If the test
// runs in a bubble, the sink is closed at its end.
func (w *world) join(hook storetest.Hook) *member {
	w.Helper()
	m := w.open(hook)
	for tp := range w.log {
		m.resume(tp)
	}
	return m
}

// open is join without partitions.
func (w *world) open(hook storetest.Hook) *member {
	w.Helper()
	m := &member{world: w, fsys: disktest.NewFaultFS(), next: make(map[sink.TopicPartition]int64), plans: make(map[sink.TopicPartition]*sink.Plan)}
	m.options = sink.Options{
		Log: w.logger, Now: w.now, Consumer: "orders", Version: "1.2.3", Due: func() { m.due.Add(1) }, Ready: func(sink.TopicPartition) { m.ready.Add(1) },
	}
	client := w.store.Again(func(ctx context.Context, c storetest.Call) storetest.Fault {
		switch {
		case m.dead.Load():
			return storetest.Fault{Before: storetest.ErrFault}
		case hook == nil:
			return storetest.Fault{}
		}
		return hook(ctx, c)
	})
	s, err := Open(w.Context(), w.spec, m.options, func(context.Context, *sink.ObjectsSpec) (store.Store, error) { return client, nil })
	if err != nil {
		w.Fatal(err)
	}
	m.sink = s
	own := s.(*objectsSink)
	folder := own.spool
	own.spool = folder.On(m.fsys)
	w.Cleanup(func() { m.close(folder) })
	return m
}

// close closes the sink at the end of the test.
func (m *member) close(folder *spool.Folder) {
	m.dead.Store(true)
	m.sink.(*objectsSink).spool = folder
	if err := m.sink.Close(false); err != nil {
		m.Error(err)
	}
}

// crash ends the agent: nothing that it does has an effect. What it has sent may still arrive.
func (m *member) crash() {
	m.dead.Store(true)
	m.sink.(*objectsSink).cancel()
}

// resume resumes a partition as the agent does: it completes an open plan, or begins at the committed
// offset after it has committed it.
func (m *member) resume(tp sink.TopicPartition) {
	m.Helper()
	l, err := m.sink.Resume(m.Context(), tp, nil)
	if err != nil || !l.Planned || l.Next != -1 {
		m.Fatalf("Resume: %+v, %v", l, err)
	}
	c := m.committed[tp]
	pos := sink.Position{Next: c.Next, Topic: m.topic, Epoch: c.Epoch}
	m.next[tp] = c.Next
	delete(m.plans, tp)
	if c.Plan != nil {
		m.plans[tp] = c.Plan
		err = m.sink.Complete(m.Context(), tp, pos, *c.Plan)
	} else {
		err = m.sink.Adopt(m.Context(), tp, "", pos)
	}
	if err != nil {
		m.Fatal(err)
	}
}

// write writes a chunk of up to n records of a partition.
func (m *member) write(p int32, n int) error {
	tp := partitionOf(p)
	l, ok := m.sink.Limits(tp)
	if !ok {
		return nil
	}
	e := m.sink.Encoder(tp)
	c := sink.Chunk{TopicPartition: tp, Next: m.next[tp]}
	var window sink.Window
	for ; c.Next < int64(len(m.log[tp])) && (l.Before == 0 || c.Next < l.Before); c.Next++ {
		r := m.log[tp][c.Next]
		if r == nil {
			continue
		}
		if c.Count == 0 {
			c.Time, window = r.Time, e.Window(r.Time)
		} else if c.Count == n || !window.Has(r.Time) || l.Bytes > 0 && len(c.Data) >= l.Bytes {
			break
		}
		c.Last, c.Count = len(c.Data), c.Count+1
		c.Data = e.Append(c.Data, r)
	}
	if c.Next == m.next[tp] {
		return nil
	}
	if c.Next == l.Before {
		c.Next += m.beyond
	}
	err := m.sink.Write(m.Context(), c)
	if err == nil {
		m.next[tp] = c.Next
	}
	return err
}

func (m *member) mustWrite(p int32, n int) {
	m.Helper()
	if err := m.write(p, n); err != nil {
		m.Fatal(err)
	}
}

// flush flushes the sink, and commits what it plans. A partition that has lost records is resumed.
func (m *member) flush(all bool) error {
	err := m.sink.Flush(m.Context(), all)
	for _, tp := range slices.SortedFunc(maps.Keys(m.log), func(a, b sink.TopicPartition) int { return int(a.Partition - b.Partition) }) {
		switch cause := sink.PartitionError(err, tp); {
		case cause == nil:
			m.commit(tp)
		case isReopen(cause):
			m.resume(tp)
		}
	}
	return err
}

// commit commits what the sink plans for a partition. Once a plan that was found is completed, the
// partition begins a new round.
func (m *member) commit(tp sink.TopicPartition) sink.Commit {
	c := m.sink.Plan(tp, sink.Position{Next: m.next[tp], Topic: m.topic})
	if c.Next < 0 || m.crashesAt("before a commit") {
		return c
	}
	m.committed[tp] = c
	if m.crashesAt("after a commit") {
		return c
	}
	m.sink.Publish(tp, c)
	if plan := m.plans[tp]; plan != nil && c.Next == plan.Next {
		m.resume(tp)
	}
	return c
}

// crashesAt reports that the agent has crashed, or crashes now.
func (m *member) crashesAt(event string) bool {
	if !m.dead.Load() && m.crashes != nil && m.crashes(event) {
		m.crash()
	}
	return m.dead.Load()
}

// finish writes and publishes everything. It runs in a bubble.
func (m *member) finish() {
	m.Helper()
	for range 500 {
		for tp := range m.log {
			if err := m.write(tp.Partition, 1000); err != nil {
				m.resume(tp)
			}
		}
		_ = m.flush(true)
		if m.finished() {
			return
		}
		time.Sleep(time.Second)
		synctest.Wait()
	}
	m.Fatalf("not everything is published: %+v", m.committed)
}

func (m *member) finished() bool {
	for tp, log := range m.log {
		if c := m.committed[tp]; c.Next != int64(len(log)) || c.Plan != nil {
			return false
		}
	}
	return true
}

// values returns the values of all objects, by key.
func (w *world) values() map[string][]string {
	all := make(map[string][]string)
	for _, key := range w.store.Keys() {
		_, data, _ := w.store.Content(key)
		all[key] = sinktest.Values(w.T, w.spec.Format, unpack(w.T, key, data))
	}
	return all
}

// unpack decompresses an object by the extension of its key.
func unpack(t *testing.T, key string, data []byte) string {
	t.Helper()
	var in io.Reader = bytes.NewReader(data)
	var err error
	switch {
	case strings.HasSuffix(key, ".gz"):
		in, err = gzip.NewReader(in)
	case strings.HasSuffix(key, ".zst"):
		in, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
	}
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(in)
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return string(content)
}

// exactlyOnce checks that each record of the log is in one object, and in the order of its partition
// within it.
func (w *world) exactlyOnce() {
	w.Helper()
	seen := make(map[string]string)
	for key, values := range w.values() {
		if len(values) == 0 {
			w.Errorf("%s is empty", key)
		}
		for _, v := range values {
			if other, ok := seen[v]; ok {
				w.Errorf("record %s is in %s and in %s", v, other, key)
			}
			seen[v] = key
		}
		if !slices.IsSorted(values) {
			w.Errorf("%s is not in order", key)
		}
	}
	want := 0
	for tp, log := range w.log {
		for offset, r := range log {
			if r == nil {
				continue
			}
			want++
			if seen[string(r.Value)] == "" {
				w.Errorf("record %d of %v is in no object", offset, tp)
			}
		}
	}
	if len(seen) != want {
		w.Errorf("the objects have %d records, want %d", len(seen), want)
	}
}

// key returns the key of a range of partition 0.
func rangeKey(p int32, first, last int64) string {
	return fmt.Sprintf("orders/%d-%020d-%020d-topicid-", p, first, last)
}
