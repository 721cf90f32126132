// Package reject applies the settings decode and on_error: it decides what happens to a record
// that cannot be decoded. Start reading at [Rules].
package reject

import (
	"fmt"
	"log/slog"
	"time"

	"kcagent/agent/stats"
	"kcagent/condition"
	"kcagent/config"
	"kcagent/leader"
	"kcagent/logkey"
	"kcagent/sink"
	"kcagent/sink/deadletter"
	"kcagent/sink/decode"
)

// Rules are the settings decode and on_error of a consumer. They do not change, and are safe
// for concurrent use.
type Rules struct {
	decoder decode.Decoder
	onError config.OnError
	letters *deadletter.Sink // nil unless on_error is dead_letter
}

// New returns the rules of a consumer. If on_error is dead_letter, snk is a
// [*deadletter.Sink].
func New(spec *config.Consumer, snk sink.Sink) *Rules {
	r := &Rules{
		decoder: decode.Decoder{Key: spec.Decode.Key == config.DecodeJSON, Value: spec.Decode.Value == config.DecodeJSON},
		onError: spec.OnError,
	}
	r.letters, _ = snk.(*deadletter.Sink)
	return r
}

// Decodes reports whether Decode may reject or mark a record.
func (r *Rules) Decodes() bool { return r.decoder != (decode.Decoder{}) }

// Decode checks and marks a record for the sink's format. The error is for [Rules.Reject].
func (r *Rules) Decode(rec *sink.Record) error {
	if !r.Decodes() { // the common case, for each record
		return nil
	}
	return r.decoder.Decode(rec)
}

// A Tally counts the rejected records of a chunk. The zero value has none. It is not safe for
// concurrent use.
type Tally struct {
	skippedKeys, skippedValues, letters int64

	cause  error // of the first rejected record
	offset int64 // of the first rejected record
}

// A StopError says why a partition stops at a record, because on_error is stop.
type StopError struct {
	Topic     string
	Partition int32
	Offset    int64
	Err       error
}

// Error names the record and the next step.
func (e *StopError) Error() string {
	return fmt.Sprintf("decode %s/%d: record at offset %d: %v; set on_error to skip or dead_letter to continue",
		e.Topic, e.Partition, e.Offset, e.Err)
}

// Unwrap returns why the record cannot be decoded.
func (e *StopError) Unwrap() error { return e.Err }

// Reject applies on_error to a record that cannot be decoded because of cause. It adds a dead
// letter to c, which may use the bytes of rec, if that is large. The error, a [*StopError],
// says that the partition stops before the record.
func (r *Rules) Reject(c *sink.Chunk, t *Tally, rec *sink.Record, epoch leader.Epoch, cause error) error {
	switch {
	case r.letters != nil:
		if !r.letters.Has(c.TopicPartition, rec.Offset, epoch) {
			c.DeadLetters = append(c.DeadLetters, r.letters.Letter(rec, epoch, cause))
		}
		t.letters++
	case r.onError.Action != config.Skip:
		return &StopError{rec.Topic, rec.Partition, rec.Offset, cause}
	case isKey(cause):
		t.skippedKeys++
	default:
		t.skippedValues++
	}
	if t.cause == nil {
		t.cause, t.offset = cause, rec.Offset
	}
	return nil
}

func isKey(err error) bool {
	e, ok := err.(*decode.Error)
	return ok && e.Part == decode.Key
}

// A Log logs rejected records of one partition: the first one, and at most one every
// [condition.RemindEvery]. The zero value is ready to use. It is not safe for concurrent use.
type Log struct{ last time.Time }

// Accepted counts and logs the rejected records of a chunk that the sink has accepted.
func (l *Log) Accepted(t *Tally, tp sink.TopicPartition, s *stats.Stats, log *slog.Logger) {
	if t.cause == nil {
		return
	}
	s.SkippedKeys.Add(t.skippedKeys)
	s.SkippedValues.Add(t.skippedValues)
	s.DeadLetters.Add(t.letters)
	now := time.Now()
	if now.Sub(l.last) < condition.RemindEvery {
		return
	}
	l.last = now
	if t.letters > 0 {
		log.Warn("record written to the dead-letter file", logkey.Topic, tp.Topic, logkey.Partition, tp.Partition, logkey.Offset, t.offset, logkey.Error, t.cause)
	} else {
		log.Warn("record skipped", logkey.Topic, tp.Topic, logkey.Partition, tp.Partition, logkey.Offset, t.offset, logkey.Error, t.cause)
	}
}
