package objects

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kcagent/sink"
	"kcagent/sink/objects/store/storetest"
)

// TestRandomFaults: the store fails, hangs, loses responses and delays uploads, agents crash and
// return, remain as zombies, and lose their spool. At the end, each record is in one object.
func TestRandomFaults(t *testing.T) {
	for seed := range uint64(25) {
		bubble(t, func(t *testing.T) { randomFaults(t, rand.New(rand.NewPCG(seed, 1))) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func randomFaults(t *testing.T, r *rand.Rand) {
	w := newWorld(t, 3, 0)
	w.store = storetest.NewMemory(r.IntN(2) == 0)
	w.spec.Key = "{topic}/{time:15}/{partition}-{first}-{last}-{topic_id}"
	w.spec.Compression = []sink.Compression{sink.Uncompressed, sink.Gzip, sink.Zstd}[r.IntN(3)]
	for p := range int32(3) {
		w.produce(p, 60)
		for _, rec := range w.log[partitionOf(p)] {
			rec.Time = rec.Time.Add(time.Duration(r.IntN(150)) * time.Minute)
		}
	}
	late := make(chan struct{})
	faults := storeFaults(rand.New(rand.NewPCG(r.Uint64(), 2)), late)
	var m *member
	for range 4 + r.IntN(4) { // generations
		m = w.join(faults)
		for range r.IntN(40) {
			p := int32(r.IntN(3))
			if r.IntN(10) == 0 {
				m.fsys.SetRoom(int64(r.IntN(100)))
			}
			if err := m.write(p, 1+r.IntN(12)); errors.Is(err, sink.ErrReopen) {
				m.resume(partitionOf(p))
			}
			m.fsys.SetRoom(-1)
			switch r.IntN(8) {
			case 0, 1:
				_ = m.flush(r.IntN(2) == 0)
			case 2:
				time.Sleep(time.Duration(r.IntN(120)) * time.Second)
				synctest.Wait()
			case 3:
				removeSpool(m, r)
			}
		}
		switch r.IntN(3) {
		case 0:
			m.crash()
		case 1:
			_ = m.sink.Release()
		default: // a zombie: its uploads continue, and no commit of it is accepted
		}
	}
	if r.IntN(2) == 0 {
		close(late)
		w.store.Wait()
		late = nil
	}
	w.join(nil).finish()
	if late != nil {
		close(late)
		w.store.Wait()
	}
	time.Sleep(time.Hour) // zombies
	synctest.Wait()
	w.exactlyOnce()
}

// removeSpool removes a file of the spool.
func removeSpool(m *member, r *rand.Rand) {
	for _, o := range m.sink.(*objectsSink).all() {
		o.mu.Lock()
		for _, rng := range o.ranges {
			for _, obj := range rng.objects {
				if r.IntN(10) == 0 {
					obj.file.Remove()
				}
			}
		}
		o.mu.Unlock()
	}
}

// storeFaults returns a hook with random faults. Its calls may be concurrent.
func storeFaults(r *rand.Rand, late chan struct{}) storetest.Hook {
	var mu sync.Mutex
	return func(ctx context.Context, c storetest.Call) (f storetest.Fault) {
		mu.Lock()
		n := r.IntN(12)
		mu.Unlock()
		switch n {
		case 0, 1:
			f.Before = storetest.ErrFault
		case 2, 3:
			f.After = storetest.ErrFault
		case 4:
			<-ctx.Done()
			f.Before = ctx.Err()
		case 5:
			if c.Op == storetest.Put {
				f.After, f.Late = storetest.ErrFault, late
			}
		}
		return f
	}
}
