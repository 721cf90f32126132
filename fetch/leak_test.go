package fetch

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestReadBatchesAreGarbage: nothing keeps the memory of a large batch that was read.
func TestReadBatchesAreGarbage(t *testing.T) {
	r := newRig(t, 1, 2, Settings{Lanes: 2, MaxBytes: 1 << 20, MaxWait: 20 * time.Millisecond}, largeMessages)
	const size = 24 << 20
	c := r.compressing(kgo.ZstdCompression())
	for p := range int32(2) {
		for i := range 3 {
			r.send(c, &kgo.Record{Partition: p, Value: padded(i, size)})
		}
	}
	r.producer.Close()
	c.Close()
	var subs []*Subscription
	for p := range int32(2) {
		s := r.fetcher.Subscribe(Spec{Topic: "t", Partition: p, MaxBytes: 64 << 10})
		defer s.Close()
		subs = append(subs, s)
	}
	for i := range 3 {
		for _, s := range subs {
			for got := 0; got == 0; {
				if _, err := s.Read(t.Context(), func(*Record) bool { got++; return true }); err != nil {
					t.Fatal(err)
				}
			}
			s.Pause()
		}
		r.eventually(fmt.Sprint("memory after record ", i), func() (bool, any) {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc < size/2, m.HeapAlloc >> 20
		})
		for _, s := range subs {
			s.Resume()
		}
	}
}
