package writer

import (
	"context"

	"kcagent/sink/file/disk"
)

// The following methods are for tests of the sink only.

// Abandon closes the writer's files as the end of the process does: it writes and truncates
// nothing.
func (w *Writer) Abandon() error { return w.closeFiles(false) }

// WritePending writes the buffer to the growing file, as further records would.
func (w *Writer) WritePending() error { return w.writeBuffer() }

// InspectFlushed locks the writer, and calls inspect with the growing file's inode and with
// its length at the last successful flush. It does nothing if there is no growing file, or
// if records were lost.
func (w *Writer) InspectFlushed(ctx context.Context, inspect func(inode uint64, flushed int64)) error {
	return w.withLocks(ctx, func() error {
		if g := w.growingSegment(); w.lost == nil && g != nil {
			inspect(disk.Inode(g.info), g.flushed)
		}
		return nil
	})
}
