package sink

import (
	"errors"
	"io"
)

// inspect notices what others did to the file: moved it (its records stay in
// it, the next one opens the path anew), deleted it, or changed its length.
// None of these is often, so the records wait meanwhile. It is called with all
// turns, and not during a rotation.
func (w *writer) inspect() error {
	g := w.current
	if g == nil {
		return nil
	}
	if g.torn && w.repair(g) != nil {
		return nil
	}
	held, err := g.f.Stat()
	if err != nil {
		g.torn = true // have it opened anew
		return fault("stat", w.path, err)
	}
	named, err := w.sink.fs.Stat(w.path)
	switch {
	case err != nil && !isNotExist(err):
		return fault("stat", w.path, err)
	case err == nil && sameFile(held, named):
		return w.resize(g, held.Size())
	case unlinked(held) && (g.length > g.safe || len(w.pending) > 0):
		return w.rescue(g)
	}
	return w.letGo(g)
}

// resize takes over a length that somebody else gave the file. Records that
// went with it cannot be told from those that a copytruncate took a copy of.
func (w *writer) resize(g *segment, size int64) error {
	if size == g.length {
		return nil
	}
	w.sink.log.Warn("sink file changed its length under the agent", "path", w.path, "expected_bytes", g.length, "found_bytes", size)
	end, err := w.cutTorn(g.f, size, g.codec)
	if err != nil {
		return fault("cut the torn end of", w.path, err)
	}
	g.length, g.safe, g.synced = end, min(g.safe, end), -1
	w.version++
	return nil
}

// letGo ends a file that was moved or deleted: once it is safe, and the
// checkpoint says so, nobody needs to find it again. The checkpoint still names
// it, for if it cannot be stored for certain, more records go into the file.
func (w *writer) letGo(g *segment) error {
	s := w.sink
	s.log.Info("sink file was moved or deleted, the next record opens it anew", "path", w.path)
	if err := w.emit(); err != nil {
		return err
	}
	if err := g.trim(); err != nil {
		return err
	}
	m := mark{w: w, state: w.now(), seg: g, f: g.f, length: g.length, folders: w.folders, last: true}
	if err := s.sync([]mark{m}); err != nil {
		return err
	}
	if err := m.store(); err != nil {
		return err
	}
	w.current = nil
	if err := g.f.Close(); err != nil {
		s.log.Warn("closing a moved sink file failed", "path", w.path, "error", err)
	}
	return nil
}

// rescue writes what a deleted file held of unsafe records to a new one: they
// were accepted, and nobody could have read them for good.
func (w *writer) rescue(old *segment) error {
	w.current = nil
	err := w.begin()
	g := w.current
	if err == nil {
		var n int64
		n, err = io.Copy(g.f, io.NewSectionReader(old.f, old.safe, old.length-old.safe))
		if err != nil {
			w.undo(g, n)
			err = fault("write", w.path, err)
		} else {
			w.grown(g)
			g.length += n
		}
	}
	if err != nil {
		if g != nil {
			_ = g.f.Close()
		}
		w.current = old // and try again
		return err
	}
	_ = old.f.Close()
	w.version++
	w.sink.log.Warn("sink file was deleted, its unsafe records were written to a new one", "path", w.path, "bytes", g.length)
	return nil
}

// close releases everything; cut says that the sink is lost. No other call is
// under way.
func (w *writer) close(cut bool) error {
	var err error
	for _, g := range []*segment{w.full, w.current} {
		if g == nil {
			continue
		}
		if cut {
			err = errors.Join(err, w.cutToSafe(g))
		}
		err = errors.Join(err, g.trim())
		if e := g.f.Close(); e != nil {
			err = errors.Join(err, fault("close", g.path, e))
		}
	}
	if w.lock != nil {
		err = errors.Join(err, w.lock.Close())
	}
	w.full, w.current, w.lock, w.pending, w.loaded = nil, nil, nil, nil, false
	return err
}

// cutToSafe takes off what no good Flush has covered. It does so through a
// descriptor of its own if the path still names the file: a sync on the old one
// would mean nothing, and the cut itself is to last.
func (w *writer) cutToSafe(g *segment) error {
	f := w.again(g)
	anew := f != nil
	if !anew {
		f = g.f
	}
	info, err := f.Stat()
	if err == nil && info.Size() > g.safe {
		err = f.Truncate(g.safe)
		if err == nil && anew {
			err = f.Datasync()
		}
	}
	if anew {
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fault("cut the unsafe end of", g.path, err)
	}
	return nil
}
