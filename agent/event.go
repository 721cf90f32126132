package agent

// An event tells a consumer's own goroutine what its others saw.
type event struct {
	kind    eventKind
	session *session // of joined
	origin  string   // of fault: what fails; a nil err means that it works again
	err     error
}

type eventKind uint8

const (
	fault  eventKind = iota // something fails, or works again
	joined                  // a generation began
	begun                   // every partition has a position, and keeps it after a crash
	left                    // a generation ended
	clean                   // everything accepted is flushed and committed
	closed                  // the last thing is closed; err says what was not saved
)
