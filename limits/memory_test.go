package limits

import (
	"math"
	"testing"
	"time"
)

func TestHalfOfTheLimitIsForLargeBatches(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct{ limit, batch, large int64 }{
		{0, 0, 256 * mib},
		{0, 512 * mib, 1024 * mib},
		{4096 * mib, 0, 256 * mib},
		{230 * mib, 0, 115 * mib},
		{86 * mib, 512 * mib, 43 * mib},
	} {
		var m Memory
		m.SetLimit(tt.limit)
		m.SetMaxBatch(tt.batch)
		if got := m.Large(); got != tt.large {
			t.Errorf("limit %d, max_batch %d: %d bytes for large batches, want %d", tt.limit, tt.batch, got, tt.large)
		}
	}
}

// TestBuffersUseAnEighthOfTheLimit, all consumers together.
func TestBuffersUseAnEighthOfTheLimit(t *testing.T) {
	const most = 128 << 10
	for _, tt := range []struct {
		limit    int64
		n, large int
	}{
		{0, 3000, most},
		{230 << 20, 0, most},
		{230 << 20, 30, most},
		{240 << 20, 300, 104_857},
		{230 << 20, 300_000, minBuffer},
	} {
		var m Memory
		m.SetLimit(tt.limit)
		a, b := m.CountBuffers(), m.CountBuffers()
		a.Set(7)
		a.Set(tt.n / 3)
		b.Set(tt.n - tt.n/3)
		if got := m.Buffer(most); got != tt.large {
			t.Errorf("limit %d, %d buffers: %d bytes, want %d", tt.limit, tt.n, got, tt.large)
		}
		a.Close()
		a.Set(7)
		b.Close()
		if got := m.Buffer(most); got != most {
			t.Errorf("limit %d: %d bytes after all consumers have ended, want %d", tt.limit, got, most)
		}
	}
}

// TestSpareBuffers: what is left of an eighth of the memory limit.
func TestSpareBuffers(t *testing.T) {
	var m Memory
	c := m.CountBuffers()
	c.Set(100)
	if got := m.SpareBuffers(32 << 10); got != math.MaxInt {
		t.Errorf("%d without a limit", got)
	}
	m.SetLimit(256 << 20)
	if got := m.SpareBuffers(32 << 10); got != 924 {
		t.Errorf("%d beside 100, want 924", got)
	}
	c.Set(2000)
	if got := m.SpareBuffers(32 << 10); got != 0 {
		t.Errorf("%d beside 2000, want none", got)
	}
}

// TestAcquireServesCallersInOrder: the first caller gets the memory first, as long as it
// repeats its call.
func TestAcquireServesCallersInOrder(t *testing.T) {
	var m Memory
	m.SetLimit(200) // 100 for large batches
	s := m.Join()
	s.Want(1)
	if !m.Acquire("a", 60) || !m.Acquire("b", 40) || m.Acquire("c", 60) {
		t.Fatal("60 and 40 of 100 bytes do not fit, or 60 more do")
	}
	select {
	case <-s.Squeezed():
	default:
		t.Error("shares receive no signal to release memory")
	}
	m.Release(40)
	if m.Acquire("d", 1) {
		t.Error("a later caller overtakes")
	}
	m.Release(60)
	if !m.Acquire("c", 60) || !m.Acquire("d", 1) || m.Used() != 61 {
		t.Error("the caller that waited gets nothing")
	}
	if m.Acquire("e", 100) || m.Acquire("f", 1) {
		t.Error("f overtakes e, which waits")
	}
	m.mu.Lock()
	m.waiting[0].seen = time.Now().Add(-2 * queueTimeout)
	m.mu.Unlock()
	if !m.Acquire("f", 1) {
		t.Error("f waits for e, which has stopped calling")
	}
}

// TestSharesShrinkByTheSameFraction: fetchers that want more than a quarter of the memory
// limit get the same fraction of what they want.
func TestSharesShrinkByTheSameFraction(t *testing.T) {
	var m Memory
	a, b := m.Join(), m.Join()
	a.Want(100)
	b.Want(300)
	if a.Limit() != 100 || b.Limit() != 300 {
		t.Errorf("%d and %d without a limit", a.Limit(), b.Limit())
	}
	m.SetLimit(800)
	if a.Limit() != 50 || b.Limit() != 150 {
		t.Errorf("%d and %d of 200, want 50 and 150", a.Limit(), b.Limit())
	}
	b.Want(0)
	if a.Limit() != 100 {
		t.Errorf("%d after the other has left, want 100", a.Limit())
	}
}
