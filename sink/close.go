package sink

import (
	"context"
	"errors"
	"maps"
)

// Close implements [Sink]. The side files stay: to remove one that another process
// has just opened would let two in.
func (s *fileSink) Close(end bool) error {
	s.alarm.stop()
	known := make(map[TopicPartition]error)
	for _, w := range s.writers() {
		of, _ := w.failures(nil)
		maps.Copy(known, of)
	}
	err := without(s.Flush(context.Background()), known)
	if end && s.spec.Load().Rotate != nil {
		for _, w := range s.writers() {
			err = errors.Join(err, w.alone(context.Background(), w.completeLast))
		}
	}
	s.keeper.stop(end)
	for _, w := range s.writers() {
		err = errors.Join(err, w.alone(context.Background(), w.close))
	}
	return err
}

// without drops from the error of a flush the partitions of which the caller knows,
// from Write or an earlier Flush, that they have to resume.
func without(err error, known map[TopicPartition]error) error {
	var some *FlushError
	if !errors.As(err, &some) {
		return err
	}
	maps.DeleteFunc(some.Failed, func(tp TopicPartition, _ error) bool { return known[tp] != nil })
	if len(some.Failed) == 0 {
		return nil
	}
	return some
}

// completeLast completes a file that gets no more records.
func (w *writer) completeLast() error {
	if w.lost != nil {
		return nil
	}
	if w.parked != nil && w.parked.current != nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	if g := w.current; w.side == nil || g == nil || g.uncovered > 0 || g.length == 0 && len(w.pending) == 0 {
		return nil
	}
	if err := w.complete(); err != nil || !w.sink.durable() {
		return err
	}
	return w.syncNames(w.folders)
}

// close closes the writer. Under at_least_once it cuts off what a loss made unsafe;
// under exactly_once the next opening does.
func (w *writer) close() error {
	err := w.closeFiles(w.lost != nil && !w.sink.exact)
	w.ledger, w.last, w.done, w.parked, w.folders, w.moved = newLedger(), nil, nil, nil, nil, nil
	return err
}

// closeFiles closes what is open.
func (w *writer) closeFiles(cut bool) error {
	var err error
	if g := w.current; g != nil {
		if cut {
			err = w.cutToSafe(g)
		}
		err = errors.Join(err, g.trim())
		if e := g.f.Close(); e != nil {
			err = errors.Join(err, fault("close", g.path, e))
		}
	}
	if w.rescued != nil {
		err = errors.Join(err, w.rescued.f.Close())
	}
	if w.side != nil {
		err = errors.Join(err, w.side.Close())
	}
	w.current, w.rescued, w.side, w.pending = nil, nil, nil, nil
	w.sink.files.give(w)
	return err
}

// cutToSafe takes off what no good flush has covered. It does so through a
// descriptor of its own if the path still names the file: a sync on the old one
// would mean nothing, and the cut itself is to last.
func (w *writer) cutToSafe(g *segment) error {
	f := w.again(g)
	other := f != nil
	if !other {
		f = g.f
	}
	info, err := f.Stat()
	if err == nil && info.Size() > g.safe {
		err = f.Truncate(g.safe)
		if err == nil && other {
			err = f.Datasync()
		}
	}
	if other {
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fault("cut the unsafe end of", g.path, err)
	}
	return nil
}
