package checkpoint

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"kcagent/leader"
	"kcagent/sink"
	"kcagent/sink/file/disk/disktest"
)

// TestSlotsAlternate checks that a checkpoint overwrites the older of two slots, so that a
// torn one leaves the one before it. A checkpoint that outgrows its slot goes to a larger
// pair.
func TestSlotsAlternate(t *testing.T) {
	fsys := disktest.NewMemoryFS()
	f, err := fsys.OpenFile("/d/x", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s := slots{f: f, newest: -1}
	if body, err := s.Load(); body != nil || err != nil {
		t.Fatalf("an empty file holds %q, %v", body, err)
	}
	var last []byte
	for n, size := range []int{1, 10, 100, 4000, 4096, 5000, 1, 20_000, 20_000, 100_000, 3, 3} {
		body := bytes.Repeat([]byte{byte('a' + n)}, size)
		if err := s.store(body, true); err != nil {
			t.Fatal(err)
		}
		again := slots{f: f}
		if got, err := again.Load(); err != nil || !bytes.Equal(got, body) {
			t.Fatalf("store %d: got %.20q, %v", n, got, err)
		}
		// A torn slot leaves the previous checkpoint.
		offset, _ := slotAt(s.newest)
		torn := fsys.Files["/d/x"].Data
		torn[offset+int64(headerSize)] ^= 1
		got, err := again.Load()
		if err != nil || !bytes.Equal(got, last) {
			t.Fatalf("store %d was torn: got %.20q, %v, want %.20q", n, got, err, last)
		}
		torn[offset+int64(headerSize)] ^= 1
		last = body
	}
}

// TestFailedStoreWritesTheSameSlotAgain checks that a failed store is followed by a write to
// the same slot, and never to the one with the newest durable checkpoint.
func TestFailedStoreWritesTheSameSlotAgain(t *testing.T) {
	fsys := disktest.NewMemoryFS()
	f, _ := fsys.OpenFile("/d/x", os.O_CREATE|os.O_RDWR, 0o600)
	s := slots{f: f, newest: -1}
	for _, body := range []string{"one", "two"} {
		if err := s.store([]byte(body), true); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		fsys.Fault = func() error { return disktest.ErrDied }
		if err := s.store([]byte("three"), true); err == nil {
			t.Fatal("no error")
		}
		fsys.Fault = nil
		for _, l := range disktest.Losses {
			after := fsys.Crash(l)
			g, _ := after.OpenFile("/d/x", os.O_RDWR, 0)
			if g == nil {
				continue // its name was never synced
			}
			body, err := (&slots{f: g}).Load()
			if err != nil || !slices.Contains([]string{"two", "three"}, string(body)) {
				t.Errorf("%s: got %q, %v", l.Name, body, err)
			}
		}
	}
	if err := s.store([]byte("four"), true); err != nil {
		t.Fatal(err)
	}
}

// TestFieldsNeedAnotherFormat lists the fields of a checkpoint. A change of the list requires
// another format, see [format]: an earlier version cannot read the checkpoint.
func TestFieldsNeedAnotherFormat(t *testing.T) {
	at := &FileState{Inode: 1, Born: 2, Length: 3, Tail: 4, Compression: sink.Zstd, Final: time.UnixMilli(5).UTC()}
	body, err := (&Checkpoint{
		Ledger: "l", Consumer: "c", Group: "g", Delivery: sink.ExactlyOnce, Unsynced: true, File: at, Done: at, Completed: time.UnixMilli(6).UTC(),
		Topics: []TopicState{{"t", sink.Identity{Cluster: "c", Topic: "i", Brokers: "b"}, map[int32]PartitionState{0: {7, "l", leader.NewEpoch(8)}}}},
	}).encode()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/format-" + string(format) + ".json")
	if err != nil || string(body) != string(want) {
		t.Errorf("the fields are\n%swant\n%s%v", body, want, err)
	}
	page, err := os.ReadFile("../../../docs/operations.md")
	if sentence := "the number of its format, now " + string(format); err != nil || !strings.Contains(string(page), sentence) {
		t.Errorf("docs/operations.md does not have %q: %v", sentence, err)
	}
}

// TestCheckpointWithoutLeaderEpochs reads a checkpoint of an older version.
func TestCheckpointWithoutLeaderEpochs(t *testing.T) {
	c, err := Decode([]byte(`{"ledger":"x","consumer":"c","group":"g","delivery":"exactly_once","topics":[{"topic":"orders","partitions":{"0":{"next":6,"lineage":"L"}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	l := Restore(c)
	if at := l.Position(sink.TopicPartition{Topic: "orders", Partition: 0}); at != (sink.Position{Next: 6, Lineage: "L"}) || at.Epoch.Known() {
		t.Errorf("got %+v", at)
	}
}

// TestPositionWithoutEntryNamesTheCluster checks that a partition without an entry has the
// cluster of the other entries.
func TestPositionWithoutEntryNamesTheCluster(t *testing.T) {
	l := NewLedger()
	absent := sink.TopicPartition{Topic: "orders", Partition: 1}
	if at := l.Position(absent); at != (sink.Position{Next: -1}) {
		t.Errorf("in an empty file: %+v", at)
	}
	l.Adopt(sink.TopicPartition{Topic: "orders", Partition: 0}, "x", sink.Position{Next: 6, Lineage: "L", Topic: sink.Identity{Cluster: "a", Topic: "id", Brokers: "b1"}})
	if at := l.Position(absent); at != (sink.Position{Next: -1, Topic: sink.Identity{Cluster: "a", Brokers: "b1"}}) {
		t.Errorf("beside another partition: %+v", at)
	}
}

func FuzzCheckpoint(f *testing.F) {
	for _, c := range []*Checkpoint{
		{Ledger: "x", Group: "g"},
		{
			Ledger: "x", File: &FileState{Inode: 1, Born: 9, Length: 2, Tail: 3, Compression: sink.Zstd}, Done: &FileState{Inode: 1, Length: 2, Final: time.UnixMilli(5)},
			Topics: []TopicState{{"t", sink.Identity{Cluster: "c", Topic: "i", Brokers: "b"}, map[int32]PartitionState{0: {5, "l", leader.NewEpoch(0)}, 7: {1 << 40, "", leader.Unknown}}}},
		},
	} {
		body, err := c.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
		f.Add(appendSlot(nil, 7, body))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _, body, ok := parseSlot(data)
		if !ok {
			body = data // even with a valid checksum, Decode must reject what is not sound
		}
		c, err := Decode(body)
		if err != nil {
			return
		}
		again, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(again); err != nil {
			t.Fatalf("what was decoded cannot be: %v\n%q", err, again)
		}
	})
}
