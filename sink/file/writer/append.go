package writer

import (
	"context"

	"kcagent/sink"
	"kcagent/sink/encode"
	"kcagent/sink/file/compress"
	"kcagent/sink/sinkio"
)

// append is called with the turn.
func (w *Writer) append(ctx context.Context, c sink.Chunk, frame []byte, codec sink.Compression) error {
	if err := w.usable(c.TopicPartition); err != nil {
		return err
	}
	if w.side == nil {
		return errClosed
	}
	w.lastUsed.Store(w.env.now().UnixNano())
	if !c.Empty() {
		if err := w.makeRoom(c, len(frame)); err != nil {
			return err
		}
		var err error
		if c.Large != nil {
			err = w.stream(ctx, c.Large)
		} else {
			err = w.accept(c.Data, frame, codec)
		}
		if err != nil {
			return err
		}
	}
	if w.env.Exact {
		w.ledger.Advance(c)
	}
	w.left.Store(w.roomLocked())
	return nil
}

// makeRoom makes current a segment to which the chunk may be appended.
func (w *Writer) makeRoom(c sink.Chunk, frame int) error {
	g := w.current
	if g == nil || !g.named {
		return errClosed
	}
	if g.torn {
		if err := w.repair(g); err != nil {
			return err
		}
	}
	if w.due(w.env.now()) || w.exceeds(c, frame) {
		return errFull
	}
	return nil
}

// accept brings data into the file, or, if it is little and to be compressed,
// into pending. frame is data compressed by codec, if that was done.
func (w *Writer) accept(data, frame []byte, codec sink.Compression) error {
	g := w.current
	if g.codec == sink.Uncompressed {
		if w.gathers(data) {
			w.pending = append(w.pending, data...)
			return nil
		}
		if err := w.emit(); err != nil {
			return err
		}
		return w.put(g, data)
	}
	if frame != nil || len(w.pending)+len(data) > w.frameLimit() {
		if err := w.emit(); err != nil {
			return err
		}
	}
	switch {
	case frame == nil && len(data) < w.frameLimit():
		w.pending = append(w.pending, data...)
		return nil
	case frame == nil || codec != g.codec: // changed since
		frame = compress.AppendFrame(g.codec, nil, data)
	}
	return w.put(g, frame)
}

// What is gathered: chunks of some records, until they are a few blocks of the disk.
const (
	smallChunk = 4 << 10
	gatherMost = 16 << 10
)

// gathers reports whether an uncompressed chunk waits for the next flush, instead of being
// written at once. With many files, one that is written several times between two flushes
// would be on its way to the disk as often: the syncs of the others take it along.
func (w *Writer) gathers(data []byte) bool {
	return len(data) <= smallChunk && len(w.pending)+len(data) <= gatherMost && w.env.pool.many()
}

// emit writes what was gathered, compressed if the file is.
func (w *Writer) emit() error {
	if len(w.pending) == 0 {
		return nil
	}
	if w.current.codec == sink.Uncompressed {
		if err := w.put(w.current, w.pending); err != nil {
			return err
		}
		w.pending = nil // an idle consumer holds none
		return nil
	}
	frame := compress.NewFrame(w.current.codec, w.pending)
	defer frame.Free()
	if err := w.put(w.current, frame.Data); err != nil {
		return err
	}
	w.pending = nil // an idle consumer holds none
	return nil
}

// put appends bytes to the file: all, or none.
func (w *Writer) put(g *segment, data []byte) error {
	n, err := sinkio.WriteAll(g.f, data)
	if err != nil {
		w.undo(g, int64(n))
		return sinkio.OpError("write", w.Path, err)
	}
	w.grown(g, int64(n))
	return nil
}

// grown records that n bytes were appended.
func (w *Writer) grown(g *segment, n int64) {
	if g.length == 0 && n > 0 {
		g.since = w.env.now()
		w.env.OnDeadline(w.deadlineLocked())
	}
	g.length += n
}

// idle reports that a flush would find nothing to do.
func (w *Writer) idle() bool {
	g := w.current
	return w.lost == nil && len(w.pending) == 0 && w.ledger.Version == w.ledger.Stored &&
		(g == nil || !g.torn && g.length == g.safe)
}

// stream appends a record to the file in pieces: all of them, or none.
func (w *Writer) stream(ctx context.Context, r *sink.Record) error {
	if err := w.emit(); err != nil {
		return err
	}
	g := w.current
	out := &sinkio.CountingWriter{W: g.f}
	err := compress.StreamFrame(g.codec, out, func(put func([]byte) error) error { return encode.Pieces(w.env.format, r, sinkio.UntilDone(ctx, put)) })
	if err != nil {
		w.undo(g, out.N)
		return sinkio.OpError("write", w.Path, err)
	}
	w.grown(g, out.N)
	return nil
}
