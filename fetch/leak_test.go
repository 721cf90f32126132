package fetch

import (
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/fetch/batch"
)

// TestReadBatchesAreCollected: nothing keeps the memory of a large batch that was read.
func TestReadBatchesAreCollected(t *testing.T) {
	const size, partitions = 24 << 20, 4
	r := newRig(t, 1, partitions, Settings{Lanes: 2, MaxBytes: 1 << 20, MaxWait: 20 * time.Millisecond}, largeMessages)
	c := r.compressingClient(kgo.ZstdCompression())
	for p := range int32(partitions) {
		r.send(c, &kgo.Record{Partition: p, Value: paddedValue(0, size)})
	}
	c.Close() // the client keeps the records that it has sent
	for p := range int32(partitions) {
		s := r.fetcher.Subscribe(Spec{Topic: "t", Partition: p, MaxBytes: 64 << 10})
		defer s.Close()
		for got := 0; got == 0; {
			if _, err := s.Read(t.Context(), func(*batch.Record) bool { got++; return true }); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.eventually("the memory to be free", func() (bool, any) {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc < size/2, m.HeapAlloc >> 20
	})
}
