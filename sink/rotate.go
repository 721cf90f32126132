package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// How a file is changed for the next one, so that a crash at any moment loses
// and repeats nothing:
//
//  1. The full file, A, gets no more bytes. The next one, B, is made as
//     <path>.next and takes the records that come.
//  2. A Flush syncs A and stores a checkpoint: A whole with its final name, B
//     with no byte yet.
//  3. A is renamed to its final name, B to the path.
//
// Before the checkpoint a <path>.next is nobody's and is removed; after it the
// renames are finished, and which of them are done shows in what is there.

const (
	nextSuffix = ".next"
	lockSuffix = ".lock"
)

// due reports whether current is to be ended before n bytes more are written.
func (w *writer) due(now time.Time, n int) bool {
	g, spec := w.current, w.sink.spec.Load()
	if g.length == 0 && len(w.pending) == 0 {
		return false
	}
	if g.codec != compression(spec) {
		return true
	}
	r := spec.Rotate
	if r == nil {
		return false
	}
	if g.codec != Uncompressed {
		n = 0 // how much it will be is not known
	}
	size := int64(r.Size)
	return size > 0 && (g.length >= size || g.length+int64(n) > size) ||
		r.Every > 0 && !g.until.IsZero() && !now.Before(g.until)
}

func compression(spec *FileSpec) Compression {
	if spec.Compression == "" {
		return Uncompressed
	}
	return spec.Compression
}

// grown has the clock end a segment that gets its first bytes.
func (w *writer) grown(g *segment) {
	if g.length == 0 {
		w.setEnd(g, time.Now())
	}
}

// setEnd has the clock end a segment that was written to at a time.
func (w *writer) setEnd(g *segment, at time.Time) {
	g.until = time.Time{}
	if r := w.sink.spec.Load().Rotate; r != nil && r.Every > 0 {
		g.until = at.UTC().Truncate(r.Every).Add(r.Every)
		w.sink.alarm.set(g.until)
	}
}

// rotate ends current and begins the next one. It is called with the turn, and
// not while one that was ended waits.
func (w *writer) rotate() error {
	if err := w.emit(); err != nil {
		return err
	}
	if err := w.current.trim(); err != nil {
		return err
	}
	final, err := w.finalName(time.Now())
	if err != nil {
		return err
	}
	path := w.path + nextSuffix
	f, err := w.sink.fs.OpenFile(path, openFlags|os.O_CREATE|os.O_TRUNC, w.sink.mode())
	if err != nil {
		return fault("open", path, err)
	}
	w.chmod(f, w.sink.mode())
	g := &segment{path: path, f: f, born: f.Born(), codec: compression(w.sink.spec.Load()), synced: -1}
	if err = f.Lock(); err == nil {
		g.id, err = f.Stat()
	}
	if err != nil {
		_ = f.Close()
		return fault("open", path, err)
	}
	w.version++ // there is something to tell even if no record came since the last checkpoint
	w.current.final, w.current.at = final, w.now()
	w.full, w.current = w.current, g
	return nil
}

// settle gives the full segment, which is safe now, its final name, and the one
// after it the path.
func (w *writer) settle() error {
	a, b, fsys := w.full, w.current, w.sink.fs
	if err := w.moveIn(a.f, a.final); err != nil {
		return err
	}
	if err := fsys.Rename(b.path, w.path); err != nil {
		return fault("rename", b.path, err)
	}
	b.path = w.path
	w.full = nil
	if err := a.f.Close(); err != nil {
		w.sink.log.Warn("closing a complete file failed", "path", a.final, "error", err)
	}
	w.sink.log.Info("file is complete", "path", a.final, "bytes", a.length)
	w.prune(time.Now())
	return nil
}

// moveIn renames the path to final, if the path names f. It may have been done
// before, or somebody else moved the file away.
func (w *writer) moveIn(f File, final string) error {
	fsys := w.sink.fs
	held, err := f.Stat()
	if err != nil {
		return fault("stat", w.path, err)
	}
	named, err := fsys.Stat(w.path)
	switch {
	case isNotExist(err):
		return nil
	case err != nil:
		return fault("stat", w.path, err)
	case sameFile(held, named):
		if err := fsys.Rename(w.path, final); err != nil {
			return fault("rename", w.path, err)
		}
	case named.Size() > 0:
		return fmt.Errorf("rename %s: another file took its place, move that away", w.path)
	}
	return nil
}

// timeFormat is that of the time in a complete file's name: UTC, so that the
// names sort as the files were ended.
const timeFormat = "20060102T150405.000Z"

// nameParts are what stands before and after the time in a complete file's
// name: orders-20261123T171500.000Z.log. Its end tells how it is compressed.
func nameParts(path string, c Compression) (before, after string) {
	base := filepath.Base(path)
	var packed string
	for _, ext := range []string{".gz", ".zst"} {
		if b, ok := strings.CutSuffix(base, ext); ok && b != "" {
			base, packed = b, ext
		}
	}
	ext := filepath.Ext(base)
	if ext == base {
		ext = ""
	}
	switch c {
	case Gzip:
		packed = ".gz"
	case Zstd:
		packed = ".zst"
	}
	return strings.TrimSuffix(base, ext) + "-", ext + packed
}

// finalName is the path of a file that ends now. A clock that was set back must
// not make it sort before an older one.
func (w *writer) finalName(now time.Time) (string, error) {
	old, err := w.complete()
	if err != nil {
		return "", err
	}
	now = now.UTC().Truncate(time.Millisecond)
	if len(old) > 0 {
		if last := old[len(old)-1].ended; !now.After(last) {
			now = last.Add(time.Millisecond)
		}
	}
	before, after := nameParts(w.path, w.current.codec)
	return filepath.Join(filepath.Dir(w.path), before+now.Format(timeFormat)+after), nil
}

// An ended is a complete file.
type ended struct {
	path  string
	ended time.Time
}

// complete lists the complete files of the path, the oldest first.
func (w *writer) complete() ([]ended, error) {
	dir := filepath.Dir(w.path)
	names, err := w.sink.fs.List(dir)
	if err != nil && !isNotExist(err) {
		return nil, fault("list", dir, err)
	}
	before, _ := nameParts(w.path, Uncompressed)
	var all []ended
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, before)
		if !ok || len(rest) < len(timeFormat) {
			continue
		}
		at, err := time.Parse(timeFormat, rest[:len(timeFormat)])
		if err == nil && w.ownEnd(rest[len(timeFormat):]) {
			all = append(all, ended{filepath.Join(dir, name), at})
		}
	}
	slices.SortFunc(all, func(a, b ended) int { return a.ended.Compare(b.ended) })
	return all, nil
}

// ownEnd reports whether a name ends as those of the path do, compressed or not.
func (w *writer) ownEnd(end string) bool {
	for _, c := range []Compression{Uncompressed, Gzip, Zstd} {
		if _, after := nameParts(w.path, c); end == after {
			return true
		}
	}
	return false
}

// prune removes complete files that are more than rotate.keep or older than
// rotate.keep_for, and comes back when the next one will be too old. A failure
// is no reason to stop: it is told, and tried again after the next file.
func (w *writer) prune(now time.Time) {
	r := w.sink.spec.Load().Rotate
	w.pruneAt = time.Time{}
	if r == nil || r.Keep == 0 && r.KeepFor == 0 {
		return
	}
	all, err := w.complete()
	if err != nil {
		w.sink.log.Warn("listing complete files failed", "path", w.path, "error", err)
		return
	}
	for i, e := range all {
		if many := r.Keep > 0 && len(all)-i > r.Keep; !many && (r.KeepFor == 0 || now.Sub(e.ended) < r.KeepFor) {
			if r.KeepFor > 0 {
				w.pruneAt = e.ended.Add(r.KeepFor)
				w.sink.alarm.set(w.pruneAt)
			}
			return
		}
		if err := w.sink.fs.Remove(e.path); err != nil && !isNotExist(err) {
			w.sink.log.Warn("removing an old file failed", "path", e.path, "error", err)
			continue
		}
		w.sink.log.Info("old file removed", "path", e.path)
	}
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
