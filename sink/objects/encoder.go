package objects

import (
	"time"

	"kcagent/sink"
)

// Encoder implements [sink.Sink].
func (s *objectsSink) Encoder(tp sink.TopicPartition) sink.Encoder {
	return &encoder{partition: s.partition(tp)}
}

// An encoder encodes records by the settings of the range that grows or, while a plan is completed, of
// the plan.
type encoder struct {
	partition *partition
	settings  *settings // those of the last call
	of        sink.Encoder
}

// now returns the encoder of the present settings.
func (e *encoder) now() sink.Encoder {
	if s := e.partition.settings.Load(); s != e.settings {
		e.settings, e.of = s, s.encoders(e.partition.tp)
	}
	return e.of
}

// Append implements [sink.Encoder].
func (e *encoder) Append(dst []byte, r *sink.Record) []byte { return e.now().Append(dst, r) }

// ValueOnly implements [sink.Encoder].
func (e *encoder) ValueOnly() bool { return e.now().ValueOnly() }

// Window implements [sink.Encoder].
func (e *encoder) Window(t time.Time) sink.Window {
	e.now()
	return e.settings.template.Window(t)
}
