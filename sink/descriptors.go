package sink

import (
	"fmt"

	"kcagent/limits"
)

// descriptors counts the descriptors that file sinks have open. Its methods
// neither wait nor allocate, and are safe for concurrent use.
type descriptors struct{ *limits.Budget }

// budget is that of all file sinks of the process.
var budget = descriptors{limits.Files()}

// acquire takes n descriptors; if fewer are left it takes none and returns false.
func (d descriptors) acquire(n int) bool { return d.Acquire(n) }

// release gives back n descriptors that acquire took.
func (d descriptors) release(n int) { d.Release(n) }

// explain returns the error of an open for which acquire returned false.
func (d descriptors) explain() error { return fmt.Errorf("open files: %w", d.Err()) }
