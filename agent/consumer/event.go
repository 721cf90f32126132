package consumer

import (
	"kcagent/agent/generation"
)

// An event reports to the state machine of a consumer what its other goroutines found.
type event struct {
	kind       eventKind
	generation *generation.Generation // of joined
	origin     string                 // of faulted: what fails; a nil err says that it works again
	err        error                  // of faulted and closed
	request    int64                  // of clean: number of the flush that was requested
}

type eventKind uint8

const (
	faulted    eventKind = iota // something fails, or works again
	joined                      // a generation started
	positioned                  // every partition has a position that survives a crash
	left                        // a generation ended
	clean                       // everything that the sink had accepted at a request is flushed and committed
	closed                      // the run has closed everything; err says what was not saved
)
