package file

import (
	"kcagent/sink"
	"kcagent/sink/file/filename"
	"kcagent/sink/file/writer"
)

// writer finds or makes the writer of a partition's file; it opens nothing.
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

// writerFor finds or makes the writer of a path.
func (s *fileSink) writerFor(path string) *writer.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writerLocked(path)
}

// writerLocked is writerOf. The caller holds s.mu.
func (s *fileSink) writerLocked(path string) *writer.Writer {
	w := s.byPath[path]
	if w == nil {
		w = writer.New(s.env, path)
		s.byPath[path] = w
	}
	return w
}

// dropper returns what drops a writer that is closed and serves no partition, for one
// that is not listed is not flushed; nil for the only one, which stays.
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
		if s.byPath[w.Path] == w {
			delete(s.byPath, w.Path)
		}
	}
}

// isListed reports whether the writer is the one of its path.
func (s *fileSink) isListed(w *writer.Writer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPath[w.Path] == w
}

// Serves reports whether a partition of the path is assigned.
func (s *fileSink) Serves(path string) bool {
	if s.single != nil {
		return s.single.Path == path
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPath[path] != nil
}

// writers returns all there are now.
func (s *fileSink) writers() []*writer.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	ws := make([]*writer.Writer, 0, len(s.byPath))
	for _, w := range s.byPath {
		ws = append(ws, w)
	}
	return ws
}
