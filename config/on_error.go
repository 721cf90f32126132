package config

import (
	"fmt"

	"gopkg.in/yaml.v3"

	"kcagent/sink"
)

// Decode says which parts of a record are decoded.
type Decode struct {
	Value Decoding `yaml:"value" doc:"none: the value is a text, or base64 if it is not valid UTF-8. json: the value is embedded as JSON; a null value is null." example:"json"`
	Key   Decoding `yaml:"key" doc:"The same for the key." example:"json"`
}

// Decoding is how a key or a value is decoded.
type Decoding string

// The decodings.
const (
	DecodeNone Decoding = "none"
	DecodeJSON Decoding = "json"
)

// Values lists the legal decodings, the default first.
func (Decoding) Values() []string { return []string{string(DecodeNone), string(DecodeJSON)} }

// OnError is what happens to a record that cannot be decoded.
type OnError struct {
	Action     ErrorAction `yaml:"-"` // in the file, a text instead of the block
	DeadLetter *DeadLetter `yaml:"dead_letter" doc:"Writes the records that cannot be decoded to a second file."`
}

// ErrorAction is the name of what happens to a record that cannot be decoded.
type ErrorAction string

// The actions.
const (
	StopPartition ErrorAction = "stop"
	Skip          ErrorAction = "skip"
	ToDeadLetters ErrorAction = "dead_letter" // written as a block, with the file
)

// DeadLetter has the dead-letter file, to which the records that cannot be decoded are written.
type DeadLetter struct {
	File *sink.FileSpec `yaml:"file" doc:"The same keys as sink.file; format is json, and delivery is the delivery of sink.file; with another sink it is at_least_once."`
}

// UnmarshalText reads stop or skip.
func (o *OnError) UnmarshalText(text []byte) error {
	switch a := ErrorAction(text); a {
	case StopPartition, Skip:
		*o = OnError{Action: a}
		return nil
	case ToDeadLetters:
		return fmt.Errorf("dead_letter requires a file: write {dead_letter: {file: {path: …}}}")
	}
	return fmt.Errorf("invalid value %q: use stop, skip or {dead_letter: {file: {path: …}}}", text)
}

// Sink returns the dead-letter file as a sink; ok is false if there is none.
func (o OnError) Sink() (spec sink.Spec, ok bool) {
	if o.DeadLetter == nil {
		return spec, false
	}
	return sink.Spec{File: o.DeadLetter.File}, true
}

// normaliseOnError sets the defaults of decode and on_error. The defaults of the sink must be set before.
func normaliseOnError(c *Consumer) {
	setDefault(&c.Decode.Value, DecodeNone)
	setDefault(&c.Decode.Key, DecodeNone)
	d := c.OnError.DeadLetter
	if d == nil {
		setDefault(&c.OnError.Action, StopPartition)
		return
	}
	c.OnError.Action = ToDeadLetters
	if d.File == nil {
		return
	}
	setDefault(&d.File.Format, sink.JSON)
	if !writesExactlyOnce(c.Sink) {
		setDefault(&d.File.Delivery, sink.AtLeastOnce)
	}
	normaliseFile(d.File, c.Name)
}

func writesExactlyOnce(s sink.Spec) bool { return s.File != nil && s.File.Delivery == sink.ExactlyOnce }

// deadLetterFile is the key of the dead-letter file.
const deadLetterFile = "on_error.dead_letter.file"

// checkOnError applies the rules for decode and on_error.
func (p *parser) checkOnError(n *yaml.Node, path string, c *Consumer) {
	if c.Decode != (Decode{DecodeNone, DecodeNone}) && formatOf(c.Sink) == sink.Raw {
		p.doc.ReportField(n, path, "decode", "requires format: json: the raw format writes the value as it is", "set sink."+c.Sink.Kind()+".format: json, or remove decode")
	}
	d := c.OnError.DeadLetter
	if d == nil {
		return
	}
	if d.File == nil {
		p.doc.ReportField(n, path, deadLetterFile, "missing: set the dead-letter file", "write {dead_letter: {file: {path: …}}}")
		return
	}
	p.checkFile(n, path, deadLetterFile, d.File, c)
	if d.File.Format != sink.JSON {
		p.doc.ReportField(n, path, deadLetterFile+".format", "invalid format raw: the reason would be lost", "use json, or remove the key")
	}
	if d.File.Delivery == sink.ExactlyOnce && !writesExactlyOnce(c.Sink) {
		p.doc.ReportField(n, path, deadLetterFile+".delivery", "exactly_once requires that the sink is a file with delivery: exactly_once, too", "use at_least_once, or remove the key")
	}
}

// formatOf returns the format of a sink; "" if there is none.
func formatOf(s sink.Spec) sink.Format {
	switch {
	case s.File != nil:
		return s.File.Format
	case s.Objects != nil:
		return s.Objects.Format
	case s.Stdout != nil:
		return s.Stdout.Format
	}
	return ""
}
