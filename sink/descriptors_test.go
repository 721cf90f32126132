package sink

import (
	"strings"
	"sync"
	"testing"

	"kcagent/limits"
)

func TestDescriptors(t *testing.T) {
	d := newDescriptors(limits.Descriptors{Limit: 256, Files: 128})
	if !d.acquire(126) || d.acquire(3) || !d.acquire(2) || d.acquire(1) {
		t.Errorf("%d of %d are taken, want all of them, and none more", d.used.Load(), d.share)
	}
	if text := d.explain().Error(); !strings.Contains(text, "limit of 256 descriptors reached (128 for files of sinks)") || !strings.Contains(text, "ulimit -n") {
		t.Errorf("the error is %q", text)
	}
	d.release(2)
	if !d.acquire(2) || d.acquire(1) {
		t.Error("two that were released cannot be taken again, or more can")
	}
	var wg sync.WaitGroup
	d.release(128)
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if d.acquire(16) {
					d.release(16)
				} else {
					t.Error("16 of 128 for each of 8 goroutines are too many")
				}
			}
		})
	}
	wg.Wait()
	if n := d.used.Load(); n != 0 {
		t.Errorf("%d are taken in the end", n)
	}
	if n := testing.AllocsPerRun(100, func() { d.acquire(2); d.release(2) }); n != 0 {
		t.Errorf("acquire and release allocate %v times", n)
	}
	defer func() {
		if recover() == nil {
			t.Error("a release of too many is not noticed")
		}
	}()
	d.release(1)
}
