package writer

import (
	"context"

	"kcagent/sink/file/disk"
)

// What follows is for tests of the sink, which look into a writer or end it.

// Abandon closes the writer's files as the end of the process does: nothing is written or
// cut off.
func (w *Writer) Abandon() error { return w.closeFiles(false) }

// WritePending writes what is pending to the growing file, as more records would.
func (w *Writer) WritePending() error { return w.writeBuffer() }

// InspectFlushed calls inspect, while nothing else uses the writer, with the growing file's
// inode and how many of its bytes the last good flush covers. It does nothing if there is
// no growing file, or records were lost.
func (w *Writer) InspectFlushed(ctx context.Context, inspect func(inode uint64, safe int64)) error {
	return w.withLocks(ctx, func() error {
		if g := w.growingSegment(); w.lost == nil && g != nil {
			inspect(disk.Inode(g.info), g.flushed)
		}
		return nil
	})
}
