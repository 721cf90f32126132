// Package verify proves from files in the JSON format that no offset of a partition is
// missing or repeated. It reads the files alone, and shares no code with the sink that
// wrote them. Start reading with [Trail.File].
package verify

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// A Trail is the content of all files together, in the order in which they are read. Its
// memory grows with the number of partitions and, up to a bound, with the holes, never with
// the records. It is not safe for concurrent use.
type Trail struct {
	Partitions map[Partition]*Count

	progress func(read int64) // bytes of the files read so far
	read     int64
}

// A Partition names one partition.
type Partition struct {
	Topic string
	ID    int32
}

// A Count is what the files hold of a partition. Holes and repeats are found between its
// first and its last offset.
type Count struct {
	First, Last int64
	Records     int64 // lines, repeats included
	Missing     int64 // offsets without a line
	Repeats     int64 // lines whose offset an earlier line has
	Late        int64 // lines after one with a higher offset, whose own offset is new

	Holes []Hole // the first ones, in order of their offsets
}

// A Hole is a run of missing offsets.
type Hole struct {
	From, To int64  // both are missing
	At       string // file:line of the record after it
}

// maxHoles bounds the memory of a partition. Beyond it a late offset counts as a repeat.
const maxHoles = 10_000

// New returns an empty trail. progress, if not nil, is called after each read with the
// bytes read so far.
func New(progress func(read int64)) *Trail {
	return &Trail{Partitions: make(map[Partition]*Count), progress: progress}
}

// A LineError reports a line that is not a record.
type LineError struct {
	File   string
	Line   int64
	Reason string
}

func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason) }

// File reads one file, compressed or not. The error is a [LineError] if a line is torn or
// not a record; the lines before it are counted.
func (t *Trail) File(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	defer f.Close()
	raw := bufio.NewReaderSize(&counter{f, t}, 1<<20)
	r, done, err := decompress(raw)
	if err != nil {
		return fmt.Errorf("verify %s: %w", path, err)
	}
	defer done()
	return t.lines(path, bufio.NewReaderSize(r, 1<<20))
}

// decompress returns a reader of the content; the first bytes of a file tell how it is
// compressed.
func decompress(raw *bufio.Reader) (r io.Reader, done func(), err error) {
	head, _ := raw.Peek(4) // a shorter file is not compressed
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(raw)
		if err != nil {
			return nil, nil, err
		}
		return z, func() {}, nil
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return raw, func() {}, nil
}

type counter struct {
	io.Reader
	trail *Trail
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.trail.read += int64(n)
	if c.trail.progress != nil {
		c.trail.progress(c.trail.read)
	}
	return n, err
}

func (t *Trail) lines(path string, r *bufio.Reader) error {
	var long []byte
	for n := int64(1); ; n++ {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			for long = long[:0]; errors.Is(err, bufio.ErrBufferFull); line, err = r.ReadSlice('\n') {
				long = append(long, line...)
			}
			long = append(long, line...)
			line = long
		}
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		case errors.Is(err, io.EOF):
			return &LineError{path, n, "incomplete last line: no newline"}
		case err != nil:
			return fmt.Errorf("verify %s:%d: %w", path, n, err)
		}
		p, offset, err := parse(line[:len(line)-1])
		if err != nil {
			return &LineError{path, n, err.Error()}
		}
		t.add(p, offset, path, n)
	}
}

// parse takes topic, partition and offset from an envelope.
func parse(line []byte) (Partition, int64, error) {
	if !json.Valid(line) { // two torn lines that were joined begin like a valid one
		return Partition{}, 0, fmt.Errorf("not JSON: %.60q", line)
	}
	if p, offset, ok := parseFast(line); ok {
		return p, offset, nil
	}
	var e struct {
		Topic     *string
		Partition *int32
		Offset    *int64
	}
	if err := json.Unmarshal(line, &e); err != nil || e.Topic == nil || e.Partition == nil || e.Offset == nil {
		return Partition{}, 0, fmt.Errorf("not a record with topic, partition and offset: %.60q", line)
	}
	return Partition{*e.Topic, *e.Partition}, *e.Offset, nil
}

// parseFast reads the form that kcagent writes: valid JSON with the fields in order, and a
// topic without escapes.
func parseFast(line []byte) (p Partition, offset int64, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"topic":"`))
	topic, rest, found := bytes.Cut(rest, []byte(`","partition":`))
	if !ok || !found || bytes.IndexByte(topic, '\\') >= 0 || bytes.IndexByte(topic, '"') >= 0 {
		return p, 0, false
	}
	id, rest, found := bytes.Cut(rest, []byte(`,"offset":`))
	at, _, more := bytes.Cut(rest, []byte(`,"timestamp":`))
	if !found || !more {
		return p, 0, false
	}
	number, err1 := strconv.ParseInt(string(id), 10, 32)
	offset, err2 := strconv.ParseInt(string(at), 10, 64)
	return Partition{string(topic), int32(number)}, offset, err1 == nil && err2 == nil
}

// add counts one record.
func (t *Trail) add(p Partition, offset int64, file string, line int64) {
	c := t.Partitions[p]
	if c == nil {
		t.Partitions[p] = &Count{First: offset, Last: offset, Records: 1}
		return
	}
	c.Records++
	switch {
	case offset == c.Last+1:
		c.Last = offset
	case offset > c.Last:
		c.Missing += offset - c.Last - 1
		if len(c.Holes) < maxHoles {
			c.Holes = append(c.Holes, Hole{c.Last + 1, offset - 1, fmt.Sprintf("%s:%d", file, line)})
		}
		c.Last = offset
	case offset < c.First:
		c.Missing += c.First - offset - 1
		if c.First-offset > 1 {
			c.Holes = slices.Insert(c.Holes, 0, Hole{offset + 1, c.First - 1, fmt.Sprintf("%s:%d", file, line)})
		}
		c.First = offset
		c.Late++
	case c.fill(offset):
		c.Late++
		c.Missing--
	default:
		c.Repeats++
	}
}

// fill removes an offset from the hole that contains it, and reports whether there is one.
func (c *Count) fill(offset int64) bool {
	i, _ := slices.BinarySearchFunc(c.Holes, offset, func(h Hole, at int64) int { return cmp.Compare(h.To, at) })
	if i == len(c.Holes) || offset < c.Holes[i].From {
		return false
	}
	switch h := &c.Holes[i]; {
	case h.From == h.To:
		c.Holes = slices.Delete(c.Holes, i, i+1)
	case offset == h.From:
		h.From++
	case offset == h.To:
		h.To--
	default:
		after := Hole{offset + 1, h.To, h.At}
		h.To = offset - 1
		c.Holes = slices.Insert(c.Holes, i+1, after)
	}
	return true
}

// Good reports whether no partition has a repeat, a late record or, unless they are
// allowed, a hole.
func (t *Trail) Good(allowHoles bool) bool {
	for _, c := range t.Partitions {
		if c.Repeats > 0 || c.Late > 0 || c.Missing > 0 && !allowHoles {
			return false
		}
	}
	return true
}

// Sorted returns the partitions by topic and number.
func (t *Trail) Sorted() []Partition {
	ps := make([]Partition, 0, len(t.Partitions))
	for p := range t.Partitions {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b Partition) int { return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID, b.ID)) })
	return ps
}
