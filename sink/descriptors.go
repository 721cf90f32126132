package sink

import (
	"fmt"
	"sync/atomic"

	"kcagent/limits"
)

// descriptors counts the descriptors that file sinks may have open. Its methods
// neither wait nor allocate, and are safe for concurrent use.
type descriptors struct {
	limit int // of the process
	share int // of it, for the files of sinks
	used  atomic.Int64
}

// budget is that of all file sinks of the process.
var budget = newDescriptors(limits.Of())

func newDescriptors(d limits.Descriptors) *descriptors {
	return &descriptors{limit: d.Limit, share: d.Files}
}

// acquire takes n descriptors; if fewer are left it takes none and returns false.
func (d *descriptors) acquire(n int) bool {
	for {
		used := d.used.Load()
		if used+int64(n) > int64(d.share) {
			return false
		}
		if d.used.CompareAndSwap(used, used+int64(n)) {
			return true
		}
	}
}

// release gives back n descriptors that acquire took.
func (d *descriptors) release(n int) {
	if d.used.Add(int64(-n)) < 0 {
		panic("sink: more descriptors were released than acquired")
	}
}

// explain returns the error of an open for which acquire returned false.
func (d *descriptors) explain() error {
	return fmt.Errorf("open files: limit of %d descriptors reached (%d for files of sinks); raise it with LimitNOFILE= or ulimit -n", d.limit, d.share)
}
