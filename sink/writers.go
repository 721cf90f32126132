package sink

// writer finds or makes the writer of a partition's file; it opens nothing.
func (s *fileSink) writer(tp TopicPartition) (*writer, error) {
	if s.only != nil {
		return s.only, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.byPartition[tp]; w != nil {
		return w, nil
	}
	path, err := expand(s.path, tp)
	if err != nil {
		return nil, err
	}
	w := s.writerLocked(path)
	s.byPartition[tp] = w
	return w, nil
}

// writerOf finds or makes the writer of a path.
func (s *fileSink) writerOf(path string) *writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writerLocked(path)
}

// writerLocked is writerOf. The caller holds s.mu.
func (s *fileSink) writerLocked(path string) *writer {
	w := s.byPath[path]
	if w == nil {
		w = newWriter(s.env, path)
		s.byPath[path] = w
	}
	return w
}

// forgets returns what drops a writer that is closed and serves no partition, for one
// that is not listed is not flushed; nil for the only one, which stays.
func (s *fileSink) forgets(w *writer) func() {
	if w == s.only {
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
		if s.byPath[w.path] == w {
			delete(s.byPath, w.path)
		}
	}
}

// lists reports whether the writer is the one of its path.
func (s *fileSink) lists(w *writer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPath[w.path] == w
}

// Serves reports whether a partition of the path is assigned.
func (s *fileSink) Serves(path string) bool {
	if s.only != nil {
		return s.only.path == path
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byPath[path] != nil
}

// writers returns all there are now.
func (s *fileSink) writers() []*writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	ws := make([]*writer, 0, len(s.byPath))
	for _, w := range s.byPath {
		ws = append(ws, w)
	}
	return ws
}
