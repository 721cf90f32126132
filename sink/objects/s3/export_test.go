package s3

import (
	"context"
	"time"

	"kcagent/sink"
)

// Tuning are the limits that tests change; those that are zero stay.
type Tuning struct {
	Stall        time.Duration
	Single, Part int64
}

// OpenTuned is Open with other limits.
func OpenTuned(ctx context.Context, spec *sink.ObjectsSpec, t Tuning) (*Store, error) {
	tune := standard
	tune.pause = time.Millisecond
	if t.Stall != 0 {
		tune.stall, tune.completion = t.Stall, t.Stall
	}
	if t.Single != 0 {
		tune.single, tune.part = t.Single, t.Part
	}
	return open(ctx, spec, tune)
}

// ForgetEnvironment empties the chain of the process.
func ForgetEnvironment() { environment = &chain{} }

// PartSize returns the size of the parts of an object.
func PartSize(size int64) int64 { return (&Store{tuning: standard}).partSize(size) }
