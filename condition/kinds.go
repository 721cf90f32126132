package condition

import "log/slog"

// A Kind is one kind of condition that lasts. The package that detects the condition logs its
// beginning and its end, with attributes of its own; a [Log] logs the reminders.
type Kind struct {
	Reminder string // the message of the reminder
	Level    slog.Level
}

// The kinds. docs/operations.md lists them with the messages of their beginning and end.
var (
	ConsumerFails     = &Kind{"consumer still fails", slog.LevelWarn}
	ChangePending     = &Kind{"change is still pending", slog.LevelWarn}
	StartWaits        = &Kind{"consumer still waits for a file", slog.LevelWarn}
	Zombie            = &Kind{"zombie has not ended yet", slog.LevelError}
	ConfigRejected    = &Kind{"configuration is still rejected", slog.LevelError}
	EndNotReached     = &Kind{"broker still has no records up to the end of the log", slog.LevelWarn}
	OffsetsUnverified = &Kind{"verifying committed offsets still fails", slog.LevelWarn}
	NoFileEvents      = &Kind{"file events are still not available; polling for edits", slog.LevelWarn}
)

// Kinds lists every kind.
func Kinds() []*Kind {
	return []*Kind{
		ConsumerFails, ChangePending, StartWaits, Zombie, ConfigRejected, EndNotReached, OffsetsUnverified, NoFileEvents,
	}
}
