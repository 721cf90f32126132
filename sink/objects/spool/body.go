package spool

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync/atomic"

	"kcagent/buffers"
	"kcagent/sink/compress"
	"kcagent/sink/file/disk"
)

// A Body is the whole content of an object: the frames on the disk, and the tail as a last frame,
// which needs no space on the disk.
type Body struct {
	spool string
	file  disk.File // nil if there are no frames on the disk
	size  int64     // of the frames on the disk
	last  compress.Frame
	lost  atomic.Pointer[error] // of a read
}

// Open returns the content of the object. Nothing may be appended any more. An error of Open or
// ReadAt wraps [sink.ErrReopen] if the content is lost.
func (f *File) Open() (*Body, error) {
	b := &Body{spool: f.folder.root, size: f.size}
	if f.tail > 0 {
		tail, err := f.readTail(0)
		if err != nil {
			return nil, err
		}
		b.last = compress.NewFrame(f.codec, tail)
		buffers.Put(tail)
	}
	if f.size == 0 {
		return b, nil
	}
	file, err := f.folder.fsys.OpenFile(f.path, os.O_RDONLY, 0)
	if err != nil {
		b.last.Free()
		return nil, spoolError("open", f.folder.root, err)
	}
	b.file = file
	if info, err := file.Stat(); err != nil || info.Size() < f.size {
		if err == nil {
			err = errShort
		}
		b.Close()
		return nil, spoolError("read", f.folder.root, err)
	}
	return b, nil
}

// Size returns the size of the object in bytes.
func (b *Body) Size() int64 { return b.size + int64(len(b.last.Data)) }

// ReadAt implements [io.ReaderAt]. It may be called concurrently.
func (b *Body) ReadAt(p []byte, at int64) (n int, err error) {
	if at < b.size {
		n, err = io.NewSectionReader(b.file, 0, b.size).ReadAt(p, at)
		if at+int64(n) < b.size && errors.Is(err, io.EOF) {
			err = errShort
		}
		if err != nil && !errors.Is(err, io.EOF) {
			err = spoolError("read", b.spool, err)
			b.lost.Store(&err)
			return n, err
		}
		if n == len(p) {
			return n, nil
		}
	}
	m, err := bytes.NewReader(b.last.Data).ReadAt(p[n:], at+int64(n)-b.size)
	return n + m, err
}

// Lost returns the error of a ReadAt that has failed; nil if none has. It says that an upload failed
// because of the spool, and not because of the store.
func (b *Body) Lost() error {
	if err := b.lost.Load(); err != nil {
		return *err
	}
	return nil
}

// Close closes the file and frees the memory of the last frame.
func (b *Body) Close() {
	b.last.Free()
	if b.file != nil {
		_ = b.file.Close()
	}
}
