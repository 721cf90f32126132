// Package verify proves from files in the JSON format that no offset of a partition is
// missing or repeated. It reads the files alone, and shares no code with the sink that
// wrote them. Start reading with [Trail.File].
//
// It proves the same of objects: from their keys, and from their contents if these are requested.
// With the objects sink it shares the stores and the template of the keys, and nothing that decides
// about ranges. Start reading with [Objects.Prove].
package verify

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A Trail is the content of all files together, in any order. Its memory grows with the
// number of partitions in each file and, up to a bound, with the holes, never with the
// records. It is not safe for concurrent use.
type Trail struct {
	files map[Partition][]*Count // one for each file with the partition

	progress func(read int64)
	read     int64
}

// A Partition names one partition.
type Partition struct {
	Topic string
	ID    int32
}

// New returns an empty trail. progress, if not nil, is called after each read with the
// bytes read so far.
func New(progress func(read int64)) *Trail {
	return &Trail{files: make(map[Partition][]*Count), progress: progress}
}

// A LineError reports a line that is not a record.
type LineError struct {
	File   string
	Line   int64
	Reason string
}

func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason) }

// errFormat reports a file in another format than JSON.
func errFormat(path string, line []byte) error {
	return fmt.Errorf("read %s: file is not in the json format: line 1 is %s; use sink.file.format: json", path, excerpt(line))
}

// File reads one file, compressed or not, and returns how many records it counted. The
// error is a [LineError] if a line after the first one is not a record, or the last one is
// incomplete; the lines before it are counted. It is the cause of ctx if that ends.
func (t *Trail) File(ctx context.Context, path string) (records int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err // names the operation and the path
	}
	defer f.Close()
	raw := bufio.NewReaderSize(&counter{ctx, f, t}, 1<<20)
	r, done, err := decompress(raw)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	defer done()
	counts := make(map[Partition]*Count)
	err = lines(path, bufio.NewReaderSize(r, 1<<20), func(p Partition, offset, line int64) {
		c := counts[p]
		if c == nil {
			counts[p] = newCount(offset, path, line)
		} else {
			c.add(offset, path, line)
		}
	})
	for p, c := range counts {
		t.files[p] = append(t.files[p], c)
		records += c.Records
	}
	return records, err
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

// A counter reports how much was read, and ends with its context.
type counter struct {
	ctx context.Context
	io.Reader
	trail *Trail
}

func (c *counter) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.Reader.Read(p)
	c.trail.read += int64(n)
	if c.trail.progress != nil {
		c.trail.progress(c.trail.read)
	}
	return n, err
}

// Bounds of the wait for the end of a line that the agent is writing.
const (
	growPoll = 10 * time.Millisecond
	growWait = 300 * time.Millisecond
)

// lines passes the place of each record to found.
func lines(path string, r *bufio.Reader, found func(p Partition, offset, line int64)) error {
	var long []byte
	for n := int64(1); ; n++ {
		line, err := readLine(r, &long)
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		case errors.Is(err, io.EOF) && n == 1 && line[0] != '{':
			return errFormat(path, line)
		case errors.Is(err, io.EOF):
			return &LineError{path, n, "incomplete last line: no newline; if the agent writes the file, verify it again once it has flushed"}
		case errors.Is(err, io.ErrUnexpectedEOF):
			return &LineError{path, n, "compressed data ends in the middle of a block; if the agent writes the file, verify it again once it has flushed"}
		case err != nil:
			return fmt.Errorf("read %s:%d: %w", path, n, err)
		}
		line = line[:len(line)-1]
		p, offset, err := parse(line)
		switch {
		case err != nil && n == 1:
			return errFormat(path, line)
		case err != nil:
			return &LineError{path, n, err.Error()}
		}
		found(p, offset, n)
	}
}

// readLine returns the next line with its newline. If the file ends within a line, it waits
// until the writer has completed the line. The result is valid until the next call; long is
// the memory for lines that do not fit into the buffer of r.
func readLine(r *bufio.Reader, long *[]byte) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == nil || errors.Is(err, io.EOF) && len(line) == 0 {
		return line, err
	}
	*long = append((*long)[:0], line...)
	var deadline time.Time
	for {
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0: // the writer made progress
			deadline = time.Now().Add(growWait)
		case errors.Is(err, io.EOF) && time.Now().Before(deadline):
			time.Sleep(growPoll)
		default:
			return *long, err
		}
		line, err = r.ReadSlice('\n')
		*long = append(*long, line...)
	}
}

// excerpt quotes the start of a line.
func excerpt(line []byte) string {
	const most = 60
	if len(line) > most {
		return fmt.Sprintf("%q…", line[:most])
	}
	return fmt.Sprintf("%q", line)
}

// parse takes topic, partition and offset from an envelope.
func parse(line []byte) (p Partition, offset int64, err error) {
	if !json.Valid(line) { // two torn lines that were joined begin like a valid one
		return p, 0, fmt.Errorf("not JSON: %s", excerpt(line))
	}
	p, offset, ok := parseFast(line)
	if !ok {
		var e struct {
			Topic     *string
			Partition *int32
			Offset    *int64
		}
		if err := json.Unmarshal(line, &e); err != nil || e.Topic == nil || e.Partition == nil || e.Offset == nil {
			return p, 0, fmt.Errorf("not a record with topic, partition and offset: %s", excerpt(line))
		}
		p, offset = Partition{*e.Topic, *e.Partition}, *e.Offset
	}
	if p.ID < 0 || offset < 0 || offset == math.MaxInt64 {
		return p, 0, fmt.Errorf("not a record with topic, partition and offset: %s", excerpt(line))
	}
	return p, offset, nil
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

// Partitions returns the partitions by topic and number.
func (t *Trail) Partitions() []Partition {
	return slices.SortedFunc(maps.Keys(t.files), func(a, b Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID, b.ID))
	})
}

// Count returns what all files hold of a partition. The order in which the files were read
// does not matter: the one with the lowest offset comes first.
func (t *Trail) Count(p Partition) Count {
	files := slices.Clone(t.files[p])
	slices.SortStableFunc(files, func(a, b *Count) int { return cmp.Compare(a.First, b.First) })
	whole := files[0].clone()
	for _, c := range files[1:] {
		whole.join(c)
	}
	return whole
}
