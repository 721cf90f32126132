package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"kcagent/agent/consumer"
	"kcagent/agent/generation"
	"kcagent/config"
	"kcagent/sink"
	"kcagent/sink/kinds"
)

// decoded writes JSON values to a file, with on_error as given.
func decoded(path, onError string) string {
	return fmt.Sprintf(", decode: {value: json}, on_error: %s, flush: {interval: 20ms}, sink: {file: {path: '%s', format: json}}", onError, path)
}

// toDeadLetters is on_error with a file.
func toDeadLetters(path string) string { return "{dead_letter: {file: {path: '" + path + "'}}}" }

// offsetsIn returns the offsets of the envelopes in a file, in order.
func offsetsIn(path string) string {
	data, _ := os.ReadFile(path)
	var all []string
	for l := range strings.Lines(string(data)) {
		_, rest, _ := strings.Cut(l, `"offset":`)
		offset, _, _ := strings.Cut(rest, ",")
		all = append(all, offset)
	}
	return strings.Join(all, " ")
}

func (r *rig) wantOffsets(path, want string) {
	r.Helper()
	r.eventually("offsets "+want+" in "+filepath.Base(path), func() (bool, any) {
		got := offsetsIn(path)
		return got == want, got
	})
}

// TestDecodedValuesAreEmbedded: a value is JSON in the envelope, and still one line.
func TestDecodedValuesAreEmbedded(t *testing.T) {
	r := newFileRig(t, 1)
	path := filepath.Join(t.TempDir(), "out.jsonl")
	r.edit(decoded(path, "stop"))
	large := `["` + strings.Repeat("x", generation.LargeRecord) + "\",\n1]"
	r.produce(0, "{\"a\":\n1}", large)
	r.wantCommitted(0, 2)
	got := lines(path)
	for i, want := range []string{`"value":{"a": 1},`, `"value":["xxx`, `xxx", 1],`} {
		if n := min(i, 1); len(got) != 2 || !strings.Contains(got[n], want) {
			t.Errorf("%d lines, %.200q has no %s", len(got), got, want)
		}
	}
}

// TestStopAtARecordThatCannotBeDecoded: the records before it are stored, the consumer names
// the record and the next step, and another on_error continues there. Other partitions are
// not affected.
func TestStopAtARecordThatCannotBeDecoded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "{partition}.jsonl") // removed after the agent has ended
	r := newFileRig(t, 2)
	first, second := strings.ReplaceAll(path, "{partition}", "0"), strings.ReplaceAll(path, "{partition}", "1")
	r.produce(0, "1", "no json", "3")
	r.produce(1, "1")
	r.edit(decoded(path, "stop"))
	r.wantStatus(consumer.Failing)
	r.wantError("decode t/0: record at offset 1: value is not valid JSON: syntax error at byte 2; set on_error to skip or dead_letter to continue")
	r.wantOffsets(first, "0")
	r.wantCommitted(0, 1)
	r.wantCommitted(1, 1)
	r.produce(1, "2")
	r.wantOffsets(second, "0 1")
	if n := r.counters().SinkErrors; n != 0 {
		t.Errorf("%d errors of the sink are counted", n)
	}
	r.edit(decoded(path, "skip"))
	r.wantStatus(consumer.Running)
	r.wantOffsets(first, "0 2")
	r.wantCommitted(0, 3)
}

// TestSkippedRecordsAreCounted: also large ones, and chunks of nothing but skipped records.
func TestSkippedRecordsAreCounted(t *testing.T) {
	r := newFileRig(t, 1)
	path := filepath.Join(t.TempDir(), "out.jsonl")
	r.produce(0, "1", "bad", "3", strings.Repeat("x", generation.LargeRecord), "5", "bad", "bad")
	r.edit(decoded(path, "skip"))
	r.wantOffsets(path, "0 2 4")
	r.wantCommitted(0, 7)
	if c := r.counters(); c.SkippedValues != 4 || c.SkippedKeys != 0 || c.Records != 3 || c.DeadLetters != 0 {
		t.Errorf("counted %+v", c)
	}
	logged := r.log.Logged(r, "record skipped")
	if len(logged) != 1 { // a reminder follows while there are more
		t.Errorf("logged %d times", len(logged))
	}
	r.produce(0, "bad", "bad")
	r.wantCommitted(0, 9)
	if m := r.metrics(); !strings.Contains(m, `kcagent_consumer_skipped_records_total{consumer="c",reason="invalid_value"} 6`) ||
		!strings.Contains(m, `kcagent_consumer_skipped_records_total{consumer="c",reason="invalid_key"} 0`) {
		t.Errorf("metrics:\n%s", m)
	}
}

// TestDeadLetters: each record is in one of the two files, with the reason in the second.
func TestDeadLetters(t *testing.T) {
	r := newFileRig(t, 1)
	dir := t.TempDir()
	path, dead := filepath.Join(dir, "out.jsonl"), filepath.Join(dir, "dead.jsonl")
	r.produce(0, "1", "bad", "3", strings.Repeat("x", generation.LargeRecord), "5", "\"\xff\"")
	r.edit(decoded(path, toDeadLetters(dead)))
	r.wantOffsets(path, "0 2 4")
	r.wantOffsets(dead, "1 3 5")
	r.wantCommitted(0, 6)
	got := lines(dead)
	for i, want := range []string{
		`"value":"bad","headers":[{"key":"kcagent.error","value":"value is not valid JSON: syntax error at byte 1"}]}`,
		`xxx","headers":[{"key":"kcagent.error","value":"value is not valid JSON: syntax error at byte 1"}]}`,
		`"value_base64":"Iv8i","headers":[{"key":"kcagent.error","value":"value is not valid JSON: it contains invalid UTF-8"}]}`,
	} {
		if !strings.HasSuffix(got[i], want) {
			t.Errorf("dead letter %d is %.300q, want %s", i, got[i], want)
		}
	}
	if c := r.counters(); c.DeadLetters != 3 || c.Records != 3 {
		t.Errorf("counted %+v", c)
	}
	if m := r.metrics(); !strings.Contains(m, `kcagent_consumer_dead_letters_total{consumer="c"} 3`) {
		t.Errorf("metrics:\n%s", m)
	}
}

// TestEmptyRecordsAreDecoded: an empty value is not valid JSON. Records of no size are not lost
// before a large one, whether it can be decoded or not.
func TestEmptyRecordsAreDecoded(t *testing.T) {
	large := strings.Repeat("x", generation.LargeRecord)
	for _, tt := range []struct{ name, large, path, dead string }{
		{"before a large record", `"` + large + `"`, "1", "0 2"},
		{"before a large dead letter", large, "", "0 1 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			r := newFileRig(t, 1)
			path, dead := filepath.Join(dir, "out.jsonl"), filepath.Join(dir, "dead.jsonl")
			r.produce(0, "", tt.large, "")
			r.edit(decoded(path, toDeadLetters(dead)))
			r.wantCommitted(0, 3)
			r.wantOffsets(path, tt.path)
			r.wantOffsets(dead, tt.dead)
		})
	}
}

// TestDeadLettersOfARefetchedChunkAreNotRepeated: writes of the records fail after their dead
// letters are durable, in a running agent and over a restart.
func TestDeadLettersOfARefetchedChunkAreNotRepeated(t *testing.T) {
	r := newFileRig(t, 1)
	dir := t.TempDir()
	path, dead := filepath.Join(dir, "out.jsonl"), filepath.Join(dir, "dead.jsonl")
	var full atomic.Bool
	full.Store(true)
	r.restart(func(ctx context.Context, s sink.Spec, o sink.Options) (sink.Sink, error) {
		out, err := kinds.Open(ctx, s, o)
		if err == nil && s.File.Path == path {
			out = &sometimesFull{out, &full}
		}
		return out, err
	})
	r.produce(0, "bad", "2", "bad", "4")
	spec := decoded(path, toDeadLetters(dead))
	r.edit(spec)
	r.wantStatus(consumer.Failing)
	r.wantOffsets(dead, "0 2")
	for range 2 {
		r.restart(r.open)
		r.edit(spec)
		r.wantStatus(consumer.Failing)
	}
	full.Store(false)
	r.wantOffsets(path, "1 3")
	r.wantCommitted(0, 4)
	r.wantOffsets(dead, "0 2")

	// A reset by an operator reads them again on purpose, in both files.
	_ = r.stop()
	r.commitExternally(0, 2, "")
	r.start()
	r.edit(spec)
	r.wantOffsets(path, "1 3 3")
	r.wantOffsets(dead, "0 2 2")
}

// TestDeadLettersOfAChunkAreBounded: a dead letter needs much more memory than a short record,
// so a chunk has fewer of them.
func TestDeadLettersOfAChunkAreBounded(t *testing.T) {
	const records = 2000
	dir := t.TempDir()
	r := newFileRig(t, 1)
	path, dead := filepath.Join(dir, "out.jsonl"), filepath.Join(dir, "dead.jsonl")
	counted := &countedLetters{}
	r.restart(func(ctx context.Context, s sink.Spec, o sink.Options) (sink.Sink, error) {
		out, err := kinds.Open(ctx, s, o)
		if err == nil && s.File.Path == dead {
			counted.Sink, out = out, counted
		}
		return out, err
	})
	r.produce(0, slices.Repeat([]string{"b"}, records)...)
	r.edit(decoded(path, toDeadLetters(dead)))
	r.wantCommitted(0, records)
	if n := len(lines(dead)); n != records {
		t.Errorf("there are %d dead letters", n)
	}
	if most := counted.most.Load(); most > records/4 {
		t.Errorf("%d dead letters are written at once", most)
	}
}

// countedLetters counts the records between two flushes.
type countedLetters struct {
	sink.Sink
	pending, most atomic.Int64
}

func (s *countedLetters) Write(ctx context.Context, c sink.Chunk) error {
	n := s.pending.Add(1)
	s.most.Store(max(n, s.most.Load()))
	return s.Sink.Write(ctx, c)
}

func (s *countedLetters) Flush(ctx context.Context, all bool) error {
	s.pending.Store(0)
	return s.Sink.Flush(ctx, all)
}

type sometimesFull struct {
	sink.Sink
	full *atomic.Bool
}

func (s *sometimesFull) Write(ctx context.Context, c sink.Chunk) error {
	if s.full.Load() {
		return errors.New("no space left on device")
	}
	return s.Sink.Write(ctx, c)
}

// TestRecordsWaitForTheirDeadLetters: while the second file cannot be written, the records
// behind the dead letter stay in Kafka.
func TestRecordsWaitForTheirDeadLetters(t *testing.T) {
	r := newFileRig(t, 1)
	dir := t.TempDir()
	path, dead := filepath.Join(dir, "out.jsonl"), filepath.Join(dir, "dead", "dead-{partition}.jsonl")
	if err := os.WriteFile(filepath.Dir(dead), nil, 0o600); err != nil { // a file in place of the folder
		t.Fatal(err)
	}
	r.produce(0, "1", "bad", "3")
	r.edit(decoded(path, toDeadLetters(dead)))
	r.wantStatus(consumer.Failing)
	r.eventually("an error of the dead letters", func() (bool, any) {
		e := r.consumer().LastError
		return e != nil && strings.Contains(*e, "dead-letter file: "), e
	})
	if got := offsetsIn(path); strings.Contains(got, "2") {
		t.Errorf("the file has %s", got)
	}
	if err := os.Remove(filepath.Dir(dead)); err != nil {
		t.Fatal(err)
	}
	r.wantOffsets(path, "0 2")
	r.wantOffsets(strings.ReplaceAll(dead, "{partition}", "0"), "1")
	r.wantStatus(consumer.Running)
}

// TestDeadLetterFileHasAHolder: another consumer that writes to the same dead-letter file
// waits until it is released, and the other way round.
func TestDeadLetterFileHasAHolder(t *testing.T) {
	spec := func(path, dead string) config.Consumer {
		return config.Consumer{
			Sink:    sink.Spec{File: &sink.FileSpec{Path: path}},
			OnError: config.OnError{DeadLetter: &config.DeadLetter{File: &sink.FileSpec{Path: dead}}},
		}
	}
	for _, c := range []struct {
		held, wanted config.Consumer
		want         bool
	}{
		{spec("/d/a", "/d/dead"), spec("/d/dead", "/d/b"), true},
		{spec("/d/a", "/d/dead"), spec("/d/b", "/d/dead"), true},
		{spec("/d/a", "/d/dead"), spec("/d/b", "/d/a"), true},
		{spec("/d/a", "/d/{topic}"), spec("/d/dead", "/d/x/b"), true},
		{spec("/d/a", "/d/dead"), spec("/d/b", "/d/c"), false},
	} {
		h := &holders{byPath: make(map[string][]*entry)}
		h.add(&entry{spec: &c.held})
		got := h.of(&c.wanted, func(*entry) bool { return true })
		if (got != nil) != c.want {
			t.Errorf("%v and %v: held %v, want %v", c.held.Sinks(), c.wanted.Sinks(), got != nil, c.want)
		}
		if got != nil && !slices.ContainsFunc(c.wanted.Sinks(), func(s sink.Spec) bool {
			return strings.HasSuffix(got.blocks().Error(), " releases "+s.String()) && kinds.Conflict(got.file, s)
		}) {
			t.Errorf("%v and %v: %s", c.held.Sinks(), c.wanted.Sinks(), got.blocks().Error())
		}
	}
}
