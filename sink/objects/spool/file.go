package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"kcagent/buffers"
	"kcagent/sink"
	"kcagent/sink/compress"
	"kcagent/sink/encode"
	"kcagent/sink/sinkio"
)

// A File is an object that grows. It is open only during a call, and needs no memory for its
// records: those that are too few for a compressed frame are in a second file, the tail. Only one
// goroutine at a time may call its methods, but Open and Read may be called at the same time once
// nothing is appended any more.
//
// A File relies on the lengths that it has counted, not on those of the files on the disk: what a
// failed write leaves is truncated at once, or by the next write.
type File struct {
	folder *Folder
	path   string
	codec  sink.Compression
	size   int64 // of whole frames
	tail   int64 // of the records in the tail; 0 without compression
}

// New returns a file without records. It creates nothing.
func (f *Folder) New(c sink.Compression) *File {
	ext := map[sink.Compression]string{sink.Gzip: ".gz", sink.Zstd: ".zst"}[c]
	return &File{folder: f, path: filepath.Join(f.path, fmt.Sprintf("%08d%s", f.number.Add(1), ext)), codec: c}
}

// Size returns the size of the object in bytes, without the records that are not compressed yet.
func (f *File) Size() int64 { return f.size }

// Spooled returns how many bytes the file has on the disk.
func (f *File) Spooled() int64 { return f.size + f.tail }

func (f *File) tailPath() string { return f.path + ".tail" }

// Append appends encoded records: all or none of them.
func (f *File) Append(data []byte) error {
	if f.codec != sink.Gzip && f.codec != sink.Zstd {
		return f.grow(func(w io.Writer) error { _, err := w.Write(data); return err })
	}
	if f.tail+int64(len(data)) < int64(compress.BigChunk()) {
		n, err := f.extend(f.tailPath(), f.tail, func(w io.Writer) error { _, err := w.Write(data); return err })
		f.tail += n
		return err
	}
	if f.tail == 0 {
		return f.appendFrame(data)
	}
	joined, err := f.readTail(len(data))
	if err != nil {
		return err
	}
	defer func() { buffers.Put(joined) }()
	joined = append(joined, data...)
	if err := f.appendFrame(joined); err != nil {
		return err
	}
	f.dropTail()
	return nil
}

// AppendLarge appends a record that is encoded and compressed in pieces: all or nothing of it. It
// returns the cause of ctx if ctx ends between two pieces.
func (f *File) AppendLarge(ctx context.Context, format sink.Format, r *sink.Record) error {
	if f.tail > 0 { // it has earlier records
		tail, err := f.readTail(0)
		if err != nil {
			return err
		}
		defer buffers.Put(tail)
		if err := f.appendFrame(tail); err != nil {
			return err
		}
		f.dropTail()
	}
	return f.grow(func(w io.Writer) error {
		return compress.StreamFrame(f.codec, w, func(put func([]byte) error) error {
			return encode.Pieces(format, r, sinkio.UntilDone(ctx, put))
		})
	})
}

// appendFrame appends data as one frame.
func (f *File) appendFrame(data []byte) error {
	frame := compress.NewFrame(f.codec, data)
	defer frame.Free()
	return f.grow(func(w io.Writer) error { _, err := w.Write(frame.Data); return err })
}

// grow appends whole frames.
func (f *File) grow(write func(io.Writer) error) error {
	n, err := f.extend(f.path, f.size, write)
	f.size += n
	return err
}

// extend appends to a file that has a length. It returns how many bytes were written; none after
// an error.
func (f *File) extend(path string, length int64, write func(io.Writer) error) (n int64, err error) {
	flag := os.O_WRONLY | os.O_APPEND
	if length == 0 {
		flag |= os.O_CREATE | os.O_TRUNC
	}
	file, err := f.folder.fsys.OpenFile(path, flag, 0o600)
	if errors.Is(err, fs.ErrNotExist) && length == 0 { // something has removed the folder
		if err = f.folder.fsys.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			file, err = f.folder.fsys.OpenFile(path, flag, 0o600)
		}
	}
	if err != nil {
		return 0, spoolError("open", f.folder.root, err)
	}
	info, err := file.Stat()
	switch {
	case err == nil && info.Size() < length:
		err = errShort
	case err == nil && info.Size() > length: // a failed write left it
		err = file.Truncate(length)
	}
	out := sinkio.CountingWriter{W: file}
	if err == nil {
		err = write(&out)
	}
	if err != nil {
		_ = file.Truncate(length) // if it fails, the next write repeats it
		_ = file.Close()
		if length == 0 { // each retry may have another file
			_ = f.folder.fsys.Remove(path)
		}
		return 0, spoolError("write", f.folder.root, err)
	}
	if err := file.Close(); err != nil { // a network file system reports a full disk here
		return 0, spoolError("close", f.folder.root, err)
	}
	return out.Written, nil
}

// readTail returns the records of the tail, in a buffer with space for more bytes. The caller
// returns it to package buffers.
func (f *File) readTail(more int) ([]byte, error) {
	file, err := f.folder.fsys.OpenFile(f.tailPath(), os.O_RDONLY, 0)
	if err != nil {
		return nil, spoolError("open", f.folder.root, err)
	}
	defer file.Close()
	data := buffers.Get(int(f.tail) + more)[:f.tail]
	if _, err := io.ReadFull(io.NewSectionReader(file, 0, f.tail), data); err != nil {
		buffers.Put(data)
		return nil, spoolError("read", f.folder.root, err)
	}
	return data, nil
}

// dropTail removes the tail, whose records are in a frame.
func (f *File) dropTail() {
	f.tail = 0
	_ = f.folder.fsys.Remove(f.tailPath()) // if it fails, the next tail truncates it
}

// Remove removes the file.
func (f *File) Remove() {
	if f.size > 0 {
		_ = f.folder.fsys.Remove(f.path) // the next start removes what is left
	}
	if f.tail > 0 {
		_ = f.folder.fsys.Remove(f.tailPath())
	}
}

// errShort says that something other than the agent has truncated a file.
var errShort = errors.New("the file is shorter than what was written to it")

// spoolError returns the error of an operation. What the file has is still there if the disk is
// full, or if there are no descriptors. Otherwise the error wraps [sink.ErrReopen]. It names the
// spool, and not the file, which is another one with each retry.
func spoolError(op, spool string, err error) error {
	op += " spool"
	var errno syscall.Errno
	isErrno := errors.As(err, &errno)
	switch {
	case Full(err), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return sinkio.OpError(op, spool, err)
	case !isErrno && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errShort) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF):
		return err // of the context
	}
	return fmt.Errorf("%w; %w", sinkio.OpError(op, spool, err), sink.ErrReopen)
}

// Full reports that an error says that the disk, or the quota of the user, has no space left.
func Full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
