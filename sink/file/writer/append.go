package writer

import (
	"context"

	"kcagent/limits"
	"kcagent/sink"
	"kcagent/sink/compress"
	"kcagent/sink/encode"
	"kcagent/sink/sinkio"
)

// append appends a chunk. It returns errClosed or errFull if the file has to be opened or
// completed first. The caller holds mu.
func (w *Writer) append(ctx context.Context, c sink.Chunk, frame []byte, codec sink.Compression) error {
	if err := w.checkResumed(c.TopicPartition); err != nil {
		return err
	}
	if w.store == nil {
		return errClosed
	}
	w.lastUsed.Store(w.env.now().UnixNano())
	if !c.Empty() {
		if err := w.prepareSegment(c, len(frame)); err != nil {
			return err
		}
		var err error
		if c.Large != nil {
			err = w.appendLarge(ctx, c.Large)
		} else {
			err = w.appendData(c.Data, frame, codec)
		}
		if err != nil {
			return err
		}
	}
	if w.env.ExactlyOnce {
		w.ledger.Advance(c)
	}
	w.roomLeft.Store(w.roomLocked())
	return nil
}

// prepareSegment checks that current can take the chunk.
func (w *Writer) prepareSegment(c sink.Chunk, frame int) error {
	g := w.current
	if g == nil || !g.inCheckpoint {
		return errClosed
	}
	if g.tornTail {
		if err := w.repairTail(g); err != nil {
			return err
		}
	}
	if w.completionDue(w.env.now()) || w.exceeds(c, frame) {
		return errFull
	}
	return nil
}

// appendData writes data to the file, or adds it to the buffer if it is small. frame is data
// compressed by codec, or nil if it is not compressed yet.
func (w *Writer) appendData(data, frame []byte, codec sink.Compression) error {
	g := w.current
	compressed := g.codec != sink.Uncompressed
	limit := w.frameLimit() // read once: edits and the records of other files may change it at any time
	switch {
	case !compressed && w.buffersSmall(data):
		w.collect(data)
		return nil
	case compressed && frame == nil && len(data) < limit:
		if len(w.buffer)+len(data) > limit {
			if err := w.writeBuffer(); err != nil {
				return err
			}
		}
		w.collect(data)
		return nil
	}
	if err := w.writeBuffer(); err != nil { // it holds earlier records
		return err
	}
	switch {
	case !compressed:
		return w.appendBytes(g, data)
	case frame == nil || codec != g.codec: // the compression of the file differs
		frame = compress.AppendFrame(g.codec, nil, data)
	}
	return w.appendBytes(g, frame)
}

// Small chunks are buffered up to a few blocks of the disk.
const (
	smallChunkBytes = 4 << 10
	maxBufferBytes  = 16 << 10
)

// buffersSmall reports whether an uncompressed chunk is buffered until the next flush. With
// many files, a file that is written several times between two flushes would be written to
// the disk as often, because the syncs of other files include it.
func (w *Writer) buffersSmall(data []byte) bool {
	return len(data) <= smallChunkBytes && len(w.buffer)+len(data) <= maxBufferBytes && w.env.pool.manyOpen() && !limits.Records.TooManyPending()
}

// collect adds records to the buffer.
func (w *Writer) collect(data []byte) {
	was := cap(w.buffer)
	w.buffer = append(w.buffer, data...)
	limits.Records.AddPending(cap(w.buffer) - was)
}

// dropBuffer empties the buffer, because its records are in the file, or lost. It leaves no memory
// to an idle consumer.
func (w *Writer) dropBuffer() {
	limits.Records.AddPending(-cap(w.buffer))
	w.buffer = nil
}

// writeBuffer writes the buffer to the file, compressed if the file is.
func (w *Writer) writeBuffer() error {
	if len(w.buffer) == 0 {
		return nil
	}
	if w.current.codec == sink.Uncompressed {
		if err := w.appendBytes(w.current, w.buffer); err != nil {
			return err
		}
		w.dropBuffer()
		return nil
	}
	frame := compress.NewFrame(w.current.codec, w.buffer)
	defer frame.Free()
	if err := w.appendBytes(w.current, frame.Data); err != nil {
		return err
	}
	w.dropBuffer()
	return nil
}

// appendBytes appends bytes to the file: all or none of them.
func (w *Writer) appendBytes(g *segment, data []byte) error {
	n, err := sinkio.WriteAll(g.f, data)
	if err != nil {
		w.undoWrite(g, int64(n))
		return sinkio.OpError("write", w.Path, err)
	}
	w.recordGrowth(g, int64(n))
	return nil
}

// recordGrowth records that n bytes were appended.
func (w *Writer) recordGrowth(g *segment, n int64) {
	if g.length == 0 && n > 0 {
		g.firstWrite = w.env.now()
		w.env.OnDeadline(w.deadlineLocked())
	}
	g.length += n
}

// isFlushed reports whether a flush has nothing to do.
func (w *Writer) isFlushed() bool {
	g := w.current
	return w.lost == nil && len(w.buffer) == 0 && w.ledger.Version == w.ledger.StoredVersion &&
		(g == nil || !g.tornTail && g.length == g.flushed)
}

// appendLarge appends a record to the file in pieces: all or none of them.
func (w *Writer) appendLarge(ctx context.Context, r *sink.Record) error {
	if err := w.writeBuffer(); err != nil {
		return err
	}
	g := w.current
	out := &sinkio.CountingWriter{W: g.f}
	err := compress.StreamFrame(g.codec, out, func(put func([]byte) error) error { return encode.Pieces(w.env.format, r, sinkio.UntilDone(ctx, put)) })
	if err != nil {
		w.undoWrite(g, out.Written)
		return sinkio.OpError("write", w.Path, err)
	}
	w.recordGrowth(g, out.Written)
	return nil
}
