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
	"kcagent/sink/file/disk"
	"kcagent/sink/sinkio"
)

// A File is an object that grows. It is open only during a call, and needs no memory for its
// records: records that are too few for a compressed frame are in a second file, the tail. Only one
// goroutine at a time may call its methods, but Open and Read may be called at the same time once
// nothing is appended any more.
//
// A File relies on the lengths that it has counted, not on the sizes of the files on the disk. Bytes of
// a failed write are truncated at once, or by the next write.
type File struct {
	folder *Folder
	path   string
	codec  sink.Compression
	size   int64 // of whole frames
	tail   int64 // of the records in the tail; 0 without compression
	tailed bool  // the file of the tail exists
}

// New returns a file without records. It creates nothing.
func (f *Folder) New(c sink.Compression) *File {
	ext := map[sink.Compression]string{sink.Gzip: ".gz", sink.Zstd: ".zst"}[c]
	return &File{folder: f, path: filepath.Join(f.path, fmt.Sprintf("%08d%s", f.number.Add(1), ext)), codec: c}
}

// Size returns the size of the object in bytes, without the records that are not compressed yet.
func (f *File) Size() int64 { return f.size }

// Spooled returns how many bytes the file has on the disk. Those of former tails, less than half a
// frame, are not counted.
func (f *File) Spooled() int64 { return f.size + f.tail }

func (f *File) tailPath() string { return f.path + ".tail" }

// Append appends encoded records: all or none of them.
func (f *File) Append(data []byte) error {
	if f.codec != sink.Gzip && f.codec != sink.Zstd {
		return f.grow(func(w io.Writer) error { _, err := w.Write(data); return err })
	}
	if f.tail+int64(len(data)) < int64(compress.BigChunk()) {
		return f.appendTail(data)
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
	f.tail = 0
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
		f.tail = 0
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
	flag := os.O_WRONLY | os.O_APPEND
	if f.size == 0 {
		flag |= os.O_CREATE | os.O_TRUNC
	}
	file, err := f.open(f.path, flag)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	switch {
	case err == nil && info.Size() < f.size:
		err = errShort
	case err == nil && info.Size() > f.size: // a failed write left it
		err = file.Truncate(f.size)
	}
	out := sinkio.CountingWriter{W: file}
	if err == nil {
		err = write(&out)
	}
	if err != nil {
		_ = file.Truncate(f.size) // if it fails, the next write repeats it
		_ = file.Close()
		if f.size == 0 { // each retry may have another file
			_ = f.folder.fsys.Remove(f.path)
		}
		return spoolError("write", f.folder.root, err)
	}
	if err := file.Close(); err != nil { // a network file system reports a full disk here
		return spoolError("close", f.folder.root, err)
	}
	f.size += out.Written
	return nil
}

// appendTail appends records to the tail. It overwrites former tails, whose records are in frames,
// because a new file for each tail would take twice as much CPU time. What a failed write leaves is
// overwritten, too.
func (f *File) appendTail(data []byte) error {
	flag := os.O_WRONLY
	if f.tail == 0 {
		flag |= os.O_CREATE
	}
	file, err := f.open(f.tailPath(), flag)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && info.Size() < f.tail {
		err = errShort
	}
	if err == nil {
		_, err = file.WriteAt(data, f.tail)
	}
	op := "write"
	if closeErr := file.Close(); err == nil && closeErr != nil {
		op, err = "close", closeErr
	}
	if err != nil {
		if !f.tailed { // each retry may have another file
			_ = f.folder.fsys.Remove(f.tailPath())
		}
		return spoolError(op, f.folder.root, err)
	}
	f.tail += int64(len(data))
	f.tailed = true
	return nil
}

// open opens a file to write. If it may create the file, and something has removed the folder, it
// creates that, too.
func (f *File) open(path string, flag int) (disk.File, error) {
	file, err := f.folder.fsys.OpenFile(path, flag, 0o600)
	if errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0 {
		if err = f.folder.fsys.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			file, err = f.folder.fsys.OpenFile(path, flag, 0o600)
		}
	}
	if err != nil {
		return nil, spoolError("open", f.folder.root, err)
	}
	return file, nil
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

// Remove removes the file.
func (f *File) Remove() {
	if f.size > 0 {
		_ = f.folder.fsys.Remove(f.path) // the next start removes what is left
	}
	if f.tailed {
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
