package verify

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"kcagent/sink"
	"kcagent/sink/objects/store"
	"kcagent/sink/template"
)

// The metadata of an object that its content and the log are compared with.
const (
	metaCluster   = "kcagentcluster"
	metaTopicID   = "kcagenttopicid"
	metaTopic     = "kcagenttopic"
	metaPartition = "kcagentpartition"
	metaFirst     = "kcagentfirst"
	metaLast      = "kcagentlast"
	metaCount     = "kcagentcount"
	metaObjects   = "kcagentobjects"
)

// readRange reads the objects of one range at the same time, in the order of the offsets, and
// returns how many records they have. With a log, it explains the gap before the range, if there is
// one, and the offsets without a record. It needs memory for one record of each object. The error is
// that of the store; what is wrong with the objects becomes a problem of the proof.
func (p *proof) readRange(ctx context.Context, tp topicPartition, objects []object, gap *Gap) (records int64, err error) {
	var open []*content
	defer func() {
		for _, c := range open {
			c.close()
		}
	}()
	for i := range objects {
		c, err := p.open(ctx, tp, &objects[i])
		if err != nil {
			return 0, err
		}
		open = append(open, c)
	}
	former := p.partitions[tp].clone()
	if err := p.explainBefore(ctx, tp, open, gap); err != nil {
		return 0, err
	}
	at, atKey := objects[0].first-1, "" // the highest offset so far
	var twice shared
	for {
		var next *content
		for _, c := range open {
			if !c.ended && (next == nil || c.offset < next.offset) {
				next = c
			}
		}
		if next == nil {
			break
		}
		if next.offset == at {
			twice.add(p, next.object.key, atKey, at)
		} else if records++; next.offset > at+1 {
			if err := p.explainUnused(ctx, tp, open, Run{at + 1, next.offset - 1, objects[0].key}); err != nil {
				return records, err
			}
		}
		at, atKey = next.offset, next.object.key
		if err := next.next(); err != nil {
			return records, err
		}
	}
	twice.report(p)
	if err := p.explainUnused(ctx, tp, open, Run{at + 1, objects[0].last, objects[0].key}); err != nil {
		return records, err
	}
	if err := p.confirm(ctx, tp, open, gap, former); err != nil {
		return records, err
	}
	for _, c := range open {
		c.compare()
	}
	p.checkObjects(open)
	return records, nil
}

// A shared is the offsets that two objects share. They are one problem, however many there are.
type shared struct {
	key, other  string
	from, to, n int64
}

func (s *shared) add(p *proof, key, other string, offset int64) {
	if key != s.key || other != s.other {
		s.report(p)
		*s = shared{key: key, other: other, from: offset}
	}
	s.to = offset
	s.n++
}

func (s *shared) report(p *proof) {
	switch s.n {
	case 0:
	case 1:
		p.problem(s.key, fmt.Sprintf("offset %d is repeated; %s has it, too", s.from, s.other))
	default:
		p.problem(s.key, fmt.Sprintf("%d offsets from %d to %d are repeated; %s has them, too", s.n, s.from, s.to, s.other))
	}
}

// checkObjects compares the number of objects of a range with the metadata of each.
func (p *proof) checkObjects(open []*content) {
	for _, c := range open {
		if want := c.head.Meta[metaObjects]; !c.failed && want != strconv.Itoa(len(open)) {
			p.problem(c.object.key, fmt.Sprintf("the range has %d objects, the metadata %s says %q", len(open), metaObjects, want))
			return // the others say the same
		}
	}
}

// A content is an object that is being read.
type content struct {
	proof  *proof
	object *object
	tp     topicPartition
	head   store.Object
	body   *source
	done   func()
	r      *bufio.Reader
	long   []byte      // the memory for long lines
	window sink.Window // of timestamps whose records have the key of the object

	line    int64
	offset  int64 // of the present record
	records int64
	ended   bool // there is no present record
	failed  bool // it could not be read to its end
}

// open opens an object and reads its first record.
func (p *proof) open(ctx context.Context, tp topicPartition, o *object) (*content, error) {
	c := &content{proof: p, object: o, tp: tp, offset: -1, done: func() {}}
	var err error
	if c.head, err = p.of.Store.Head(ctx, o.key); err == nil {
		c.checkMetadata()
		var body io.ReadCloser
		if body, err = p.of.Store.Open(ctx, o.key); err == nil {
			return c, c.start(&source{ReadCloser: body})
		}
	}
	c.ended, c.failed = true, true
	if errors.Is(err, store.ErrNotExist) {
		p.problem(o.key, "the object was deleted after it had been listed")
		err = nil
	}
	return c, err
}

// start reads the first record.
func (c *content) start(body *source) error {
	c.body = body
	r, done, err := decompress(bufio.NewReaderSize(body, bufferSize))
	switch {
	case body.err != nil:
		return body.err
	case err != nil:
		c.fail(err.Error())
		return nil
	}
	c.done, c.r = done, bufio.NewReaderSize(r, bufferSize)
	return c.next()
}

// bufferSize is the memory for an object that is read, before and after it is decompressed.
const bufferSize = 64 << 10

// A source remembers that it failed: an error of the store is not damage to the object.
type source struct {
	io.ReadCloser
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (c *content) close() {
	c.done()
	if c.body != nil {
		_ = c.body.Close()
	}
}

// checkMetadata compares the identity of the object with its key.
func (c *content) checkMetadata() {
	want := []struct{ name, value string }{
		{metaTopic, c.tp.topic.Name},
		{metaPartition, strconv.Itoa(int(c.tp.partition))},
		{metaFirst, strconv.FormatInt(c.object.first, 10)},
		{metaLast, strconv.FormatInt(c.object.last, 10)},
	}
	for _, w := range want {
		if got, ok := c.head.Meta[w.name]; got != w.value {
			reason := fmt.Sprintf("metadata %s is %q, the key says %q", w.name, got, w.value)
			if !ok {
				reason = "metadata " + w.name + " is missing; the object is not one that kcagent has written"
			}
			c.proof.problem(c.object.key, reason)
			return
		}
	}
}

// compare compares the number of records with the metadata, once all records were read.
func (c *content) compare() {
	if c.failed {
		return
	}
	if want := c.head.Meta[metaCount]; want != strconv.FormatInt(c.records, 10) {
		c.proof.problem(c.object.key, fmt.Sprintf("the object has %d records, its metadata %s says %q", c.records, metaCount, want))
	}
}

// fail ends the content with a problem.
func (c *content) fail(reason string) {
	c.ended, c.failed = true, true
	c.proof.problem(c.object.key, fmt.Sprintf("line %d: %s", c.line, reason))
}

// next reads the next record. The error is that of the store.
func (c *content) next() error {
	c.line++
	line, err := readLine(c.r, &c.long)
	switch {
	case errors.Is(err, io.EOF) && len(line) == 0:
		c.ended = true
		return nil
	case errors.Is(err, io.EOF):
		c.fail("incomplete last line: no newline")
		return nil
	case c.body.err != nil:
		return c.body.err
	case errors.Is(err, io.ErrUnexpectedEOF):
		c.fail("compressed data ends in the middle of a block")
		return nil
	case err != nil:
		c.fail(err.Error())
		return nil
	}
	line = line[:len(line)-1]
	p, offset, err := parse(line)
	switch {
	case err != nil && c.line == 1:
		c.fail(err.Error() + "; only objects with format: json can be read")
	case err != nil:
		c.fail(err.Error())
	case p != (Partition{c.tp.topic.Name, c.tp.partition}):
		c.fail(fmt.Sprintf("the record is of %s/%d", printable(p.Topic), p.ID))
	case offset < c.object.first || offset > c.object.last:
		c.fail(fmt.Sprintf("offset %d is outside of the range of the key", offset))
	case offset <= c.offset:
		c.fail(fmt.Sprintf("offset %d comes after offset %d", offset, c.offset))
	default:
		if reason := c.checkTime(line); reason != "" {
			c.fail(reason)
			return nil
		}
		c.offset, c.records = offset, c.records+1
	}
	return nil
}

// checkTime says why the key of a record is not that of the object; "" if it is.
func (c *content) checkTime(line []byte) string {
	key := c.object.template
	if !key.Has(template.Time) {
		return ""
	}
	at, err := timestamp(line)
	switch {
	case err != nil:
		return err.Error()
	case c.window != sink.Window{} && c.window.Has(at):
		return ""
	}
	v := c.object.values
	v.Time, v.Last = at, c.object.last
	if want, err := key.Render(v); err != nil || want != c.object.stem {
		return fmt.Sprintf("timestamp %s belongs to the key %s", at.Format(time.RFC3339Nano), want)
	}
	c.window = key.Window(at)
	return ""
}

// timestamp returns the timestamp of an envelope; zero if it has none.
func timestamp(line []byte) (t time.Time, err error) {
	if _, rest, ok := bytes.Cut(line, []byte(`,"timestamp":"`)); ok {
		if text, _, ok := bytes.Cut(rest, []byte(`"`)); ok {
			if t, err := time.Parse(time.RFC3339Nano, string(text)); err == nil {
				return t, nil
			}
		}
	}
	var e struct{ Timestamp *time.Time }
	if err := json.Unmarshal(line, &e); err != nil {
		return t, fmt.Errorf("not a record with a timestamp: %s", excerpt(line))
	}
	if e.Timestamp != nil {
		t = *e.Timestamp
	}
	return t, nil
}
