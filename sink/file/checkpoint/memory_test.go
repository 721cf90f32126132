package checkpoint

import (
	"os"
	"runtime"
	"testing"

	"kcagent/sink"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/disk/disktest"
)

// bytesOf returns how many bytes f allocates on average.
func bytesOf(runs int, f func()) int {
	f()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc-before.TotalAlloc) / runs
}

// TestLedgerIsSmall: an agent may have thousands of files with one partition each.
func TestLedgerIsSmall(t *testing.T) {
	kept := make([]Ledger, 0, 1001)
	at := sink.Position{Next: 1, Lineage: "l", Topic: sink.Identity{Cluster: "c", Topic: "t", Brokers: "b"}}
	n := bytesOf(1000, func() {
		l := NewLedger()
		l.Adopt(sink.TopicPartition{Topic: "t"}, "id", at)
		kept = append(kept, l)
	})
	if n > 640 {
		t.Errorf("a ledger of one partition takes %d bytes", n)
	}
	runtime.KeepAlive(kept)
}

// TestBuffersOfCheckpointsAreReused: a flush compares the end of the file and writes a slot, which
// takes no new memory of their size. With the race detector, a pool drops some buffers.
func TestBuffersOfCheckpointsAreReused(t *testing.T) {
	fsys := disktest.NewMemoryFS()
	f, err := fsys.OpenFile("/d/x", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 2*tailBytes), 0); err != nil {
		t.Fatal(err)
	}
	tail := func() {
		if _, err := tailChecksum(f, 2*tailBytes); err != nil {
			t.Fatal(err)
		}
	}
	if n := bytesOf(1000, tail); n > tailBytes/2 {
		t.Errorf("a checksum takes %d bytes", n)
	}
	s := slots{f: nullFile{}, newest: 0}
	body := make([]byte, 3000)
	store := func() {
		if err := s.store(body, true); err != nil {
			t.Fatal(err)
		}
	}
	if n := bytesOf(1000, store); n > len(body)/2 {
		t.Errorf("a slot takes %d bytes", n)
	}
}

// A nullFile drops what is written.
type nullFile struct{ disk.File }

func (nullFile) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
func (nullFile) Datasync() error                        { return nil }
