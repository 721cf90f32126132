package file

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"kcagent/leader"
	"kcagent/logkey"
	"kcagent/sink"
	"kcagent/sink/file/filename"
	"kcagent/sink/file/writer"
	"kcagent/sink/template"
)

// maxWindows is how many files of one partition are open. A record of a further one closes the
// file that was not written for the longest time.
const maxWindows = 32

// A partitionWindows is the state of a partition whose records are separated by time. Only the
// goroutine that writes the partition uses it.
type partitionWindows struct {
	pos    sink.Position // where the next chunk begins, as the caller has adopted it
	before int64         // see [sink.Limits]
	open   []*window     // the last one was written last
}

// A window is an open file of a partition.
type window struct {
	sink.Window // of timestamps that have the path; the path may have others, too
	path        string
	w           *writer.Writer
	ledger      sink.Ledger // the entry of the partition when it resumed
	adopted     bool        // the ledger has the lineage of the position
	// have is an offset: the file has all records of the window before it, of this lineage. 0 is
	// none.
	have int64
}

// A windowEncoder is the encoder of a sink that separates records by time.
type windowEncoder struct {
	sink.Encoder
	template *template.Template
}

// Window implements [sink.Encoder].
func (e windowEncoder) Window(t time.Time) sink.Window { return e.template.Window(t) }

// parseTemplate returns the template of a path with {time:LAYOUT}; nil for another path.
func parseTemplate(spec sink.FileSpec) (*template.Template, error) {
	if !filename.HasTime(spec.Path) {
		return nil, nil
	}
	zone, err := time.LoadLocation(spec.TimeZone) // "" is UTC
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", spec.Path, err)
	}
	t, err := template.Parse(spec.Path, zone)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", spec.Path, err)
	}
	return t, nil
}

// windowsOf returns the state of a partition.
func (s *fileSink) windowsOf(tp sink.TopicPartition) *partitionWindows {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.windows[tp]
	if p == nil {
		p = &partitionWindows{pos: sink.Position{Next: -1}}
		s.windows[tp] = p
	}
	return p
}

// resumeWindows is Resume with windows. Files that lost records are opened again. The others keep
// their records, and drop the ones that are read again.
func (s *fileSink) resumeWindows(ctx context.Context, tp sink.TopicPartition) (sink.Ledger, error) {
	p := s.windowsOf(tp)
	p.pos, p.before = sink.Position{Next: -1}, 0
	for _, win := range p.open {
		if err := s.resumeWindow(ctx, tp, win); err != nil {
			return sink.Ledger{}, err
		}
	}
	return sink.Ledger{Windows: s.env.ExactlyOnce, Position: sink.Position{Next: -1}}, nil
}

func (s *fileSink) resumeWindow(ctx context.Context, tp sink.TopicPartition, win *window) error {
	win.adopted = false
	return s.withDescriptors(ctx, func() (err error) {
		win.ledger, err = win.w.Resume(ctx, tp, nil)
		return err
	})
}

// withDescriptors calls do, and once more after it has freed descriptors that do needs.
func (s *fileSink) withDescriptors(ctx context.Context, do func() error) error {
	err := do()
	if errors.Is(err, writer.ErrNoDescriptors) && s.freeDescriptors(ctx) {
		err = do()
	}
	return err
}

// adoptWindows is Adopt with windows: each file gets the position with its first record.
func (s *fileSink) adoptWindows(tp sink.TopicPartition, pos sink.Position) {
	p := s.windowsOf(tp)
	p.pos, p.before = pos, 0
	for _, win := range p.open {
		win.adopted = false
	}
}

// writeWindow is Write with windows.
func (s *fileSink) writeWindow(ctx context.Context, c sink.Chunk) error {
	p := s.windowsOf(c.TopicPartition)
	if !c.Empty() {
		win, err := s.openWindow(ctx, p, &c)
		if err == nil {
			err = s.adoptWindow(ctx, p, win, c.TopicPartition)
		}
		switch {
		case err != nil:
			return err
		case c.Next <= win.have && !isLater(c.Epoch, win.ledger.Epoch): // read again after a crash
		case 0 <= p.pos.Next && p.pos.Next < win.have && win.have < c.Next:
			p.before = win.have
			return sink.ErrReadAgain
		default:
			err := s.withDescriptors(ctx, func() error { return win.w.Write(ctx, c) })
			s.markWritten(win.w)
			if err != nil {
				return err
			}
		}
	}
	p.pos.Next, p.pos.Epoch = c.Next, c.Epoch
	if c.Next >= p.before {
		p.before = 0
	}
	return nil
}

// openWindow returns the window of a chunk, as the last one of p.open.
func (s *fileSink) openWindow(ctx context.Context, p *partitionWindows, c *sink.Chunk) (*window, error) {
	for at := len(p.open) - 1; at >= 0; at-- { // nearly always the first one
		if p.open[at].Has(c.Time) {
			return p.makeLast(at), nil
		}
	}
	path, err := s.template.Render(template.Values{Topic: c.Topic, Partition: c.Partition, Time: c.Time})
	if err != nil {
		return nil, err
	}
	interval := s.template.Window(c.Time)
	if at := slices.IndexFunc(p.open, func(win *window) bool { return win.path == path }); at >= 0 {
		win := p.makeLast(at)
		win.Window = interval
		return win, nil
	}
	if len(p.open) == s.maxWindows {
		if err := s.closeOldest(ctx, p, c.TopicPartition); err != nil {
			return nil, err
		}
	}
	win := &window{Window: interval, path: path, w: s.useWriter(path)}
	if err := s.resumeWindow(ctx, c.TopicPartition, win); err != nil {
		return nil, errors.Join(err, s.leaveWriter(win.w))
	}
	p.open = append(p.open, win)
	return win, nil
}

// makeLast moves a window to the end of the list, and returns it.
func (p *partitionWindows) makeLast(at int) *window {
	win := p.open[at]
	if at < len(p.open)-1 {
		p.open = append(slices.Delete(p.open, at, at+1), win)
	}
	return win
}

// adoptWindow gives the ledger of a window the lineage of the position, unless it has it: then the
// file has the records before its entry.
func (s *fileSink) adoptWindow(ctx context.Context, p *partitionWindows, win *window, tp sink.TopicPartition) error {
	if win.adopted || !s.env.ExactlyOnce {
		return nil
	}
	win.have = 0
	if sameHistory(win.ledger.Position, p.pos) {
		win.have = win.ledger.Next
	} else {
		err := s.withDescriptors(ctx, func() error { return win.w.Adopt(ctx, tp, win.ledger.ID, p.pos) })
		if err != nil {
			return err
		}
		s.markWritten(win.w)
	}
	win.adopted = true
	return nil
}

// sameHistory reports whether the entry of a ledger and a position are of one lineage of one topic.
func sameHistory(entry, pos sink.Position) bool {
	differ := func(a, b string) bool { return a != "" && b != "" && a != b }
	return entry.Next >= 0 && entry.Lineage == pos.Lineage &&
		!differ(entry.Topic.Cluster, pos.Topic.Cluster) && !differ(entry.Topic.Topic, pos.Topic.Topic)
}

// isLater reports whether a leader epoch is known to be later than another one. Epochs only grow along
// a log: a record of a later epoch has replaced the one that the file has.
func isLater(a, b leader.Epoch) bool { return a.Known() && b.Known() && a.Kafka() > b.Kafka() }

// closeOldest flushes and closes the file that was not written for the longest time. If another
// partition has reopened the file after a loss, the records of this partition are lost, too, and
// closeOldest returns its error.
func (s *fileSink) closeOldest(ctx context.Context, p *partitionWindows, tp sink.TopicPartition) error {
	win := p.open[0]
	failed, _ := win.w.Failures(win.w.Flush(ctx))
	if err := failed[tp]; err != nil {
		return err
	}
	p.open = slices.Delete(p.open, 0, 1)
	if err := s.leaveWriter(win.w); err != nil {
		s.env.Log.Warn("closing an idle file failed", logkey.Path, win.path, logkey.Error, err)
	}
	return nil
}

// useWriter returns the writer of a path, for one more partition.
func (s *fileSink) useWriter(path string) *writer.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.writerLocked(path)
	s.users[w]++
	return w
}

// leaveWriter ends the use of a writer by a partition, and closes it if no other partition uses it.
// Everything in it was flushed.
func (s *fileSink) leaveWriter(w *writer.Writer) error {
	s.mu.Lock()
	if s.users[w]--; s.users[w] == 0 {
		delete(s.users, w)
	}
	s.mu.Unlock()
	return w.CloseUnused(func() bool { return s.isUsed(w) }, s.dropper(w))
}

// isUsed reports whether a partition has a window with the writer.
func (s *fileSink) isUsed(w *writer.Writer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.users[w] > 0
}

// markWritten has each Flush flush a writer until one has succeeded that began afterwards.
func (s *fileSink) markWritten(w *writer.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	s.written[w] = s.writes
}

// flushed records that a Flush of a writer has succeeded that began after the given write.
func (s *fileSink) flushed(w *writer.Writer, write uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.written[w] == write {
		delete(s.written, w)
	}
}

// toFlush returns the writers that a Flush has to flush, with the number of the last write. With
// windows, most files are not written any more. Two calls of Flush at the same time flush the same
// writers: neither returns before the records of all are durable.
func (s *fileSink) toFlush() map[*writer.Writer]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.template != nil {
		return maps.Clone(s.written)
	}
	ws := make(map[*writer.Writer]uint64, len(s.byPath))
	for _, w := range s.byPath {
		ws[w] = 0
	}
	return ws
}
