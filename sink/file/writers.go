package file

import (
	"kcagent/sink"
	"kcagent/sink/file/filename"
	"kcagent/sink/file/writer"
)

// writer returns the writer of a partition's file, and creates it if there is none. It opens
// no file.
func (s *fileSink) writer(tp sink.TopicPartition) (*writer.Writer, error) {
	if s.single != nil {
		return s.single, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.byPartition[tp]; w != nil {
		return w, nil
	}
	path, err := filename.Expand(s.path, tp)
	if err != nil {
		return nil, err
	}
	w := s.writerLocked(path)
	s.byPartition[tp] = w
	return w, nil
}

// writerFor returns the writer of a path, and creates it if there is none.
func (s *fileSink) writerFor(path string) *writer.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writerLocked(path)
}

// writerLocked is writerFor. The caller holds s.mu.
func (s *fileSink) writerLocked(path string) *writer.Writer {
	w := s.byPath[path]
	if w == nil {
		w = writer.New(s.env, path)
		s.byPath[path] = w
	}
	return w
}

// dropper returns a function that removes a closed writer from the list, unless it serves a
// partition again: a writer that is not listed is not flushed. dropper returns nil for the
// only writer of a path without placeholders, which stays.
func (s *fileSink) dropper(w *writer.Writer) func() {
	if w == s.single {
		return nil
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, of := range s.byPartition {
			if of == w {
				return
			}
		}
		if s.users[w] > 0 {
			return
		}
		if s.byPath[w.Path] == w {
			delete(s.byPath, w.Path)
		}
	}
}

// isListed reports whether w is the writer of its path.
func (s *fileSink) isListed(w *writer.Writer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPath[w.Path] == w
}

// Serves implements [retention.Files].
func (s *fileSink) Serves(path string) bool {
	if s.single != nil {
		return s.single.Path == path
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPath[path] != nil
}

// writers returns all current writers.
func (s *fileSink) writers() []*writer.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	ws := make([]*writer.Writer, 0, len(s.byPath))
	for _, w := range s.byPath {
		ws = append(ws, w)
	}
	return ws
}
