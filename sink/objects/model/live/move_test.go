package live

import "testing"

// published reports whether the group has committed the end of each partition, without a plan.
func (s *scene) published() bool {
	commits := s.commits()
	for partition, end := range s.ends {
		if c := commits[int32(partition)]; c.offset != end || c.open {
			return false
		}
	}
	return true
}

// produceAll appends a record to each partition.
func (s *scene) produceAll() {
	s.Helper()
	for partition := range s.ends {
		s.produce(partition, 1, 0)
	}
}

// TestPartitionsMoveAndReturn: a second process takes a partition of the first, publishes records of it,
// and ends. The first one resumes at what the second has committed, not at what it knew itself.
func TestPartitionsMoveAndReturn(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2, true, "size: 1MiB, every: 1s")
	s.produceAll()
	a := s.launch(nil)
	s.eventually("the publication by the first process", s.published)
	b := s.launch(nil)
	s.eventually("joining", b.joined)
	s.produceAll()
	s.eventually("the publication by both processes", s.published)
	b.stop()
	s.produceAll()
	s.eventually("the publication by the process that is left", s.published)
	a.stop()
	s.finish()
}
