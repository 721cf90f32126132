package agent

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapFloor is how far the heap may grow beyond what lives in it before it is
// collected, at least. What lives in a busy agent is small and what passes
// through is not: by Go's default rule, collect when the heap has doubled, it
// would collect hundreds of times a second and spend a quarter of its time so.
const heapFloor = 64 << 20

// KeepHeapFloor lets the heap grow by heapFloor between two collections where
// the default would allow less. It leaves alone who has set GOGC, and a heap
// that is larger than the floor. It is called once for the process.
func KeepHeapFloor() {
	if os.Getenv("GOGC") == "" {
		runtime.SetFinalizer(new(collected), (*collected).retune)
	}
}

// A collected is found dead by each collection, which is how Go code learns of
// one, and is set up again for the next.
type collected struct{ percent int }

func (c *collected) retune() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := max(100, int(heapFloor*100/max(live[0].Value.Uint64(), 1<<20)))
	// Setting it stops the world for an instant, so small changes are let be.
	if percent < c.percent*4/5 || percent > c.percent*5/4 {
		debug.SetGCPercent(percent)
		c.percent = percent
	}
	runtime.SetFinalizer(c, (*collected).retune)
}
