package live

import (
	"sync/atomic"
	"testing"
)

// TestRecreatedTopicIsNotPublishedAsTheFormer: the topic is recreated, and its first records are read
// before the brokers have reported that twice. They are not planned as records of the former topic.
func TestRecreatedTopicIsNotPublishedAsTheFormer(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1, true, "size: 1MiB, every: 1h")
	var calls atomic.Int64
	var produced atomic.Bool
	p := s.launch(func(string) fate {
		if calls.Add(1) == 1 { // the commit of the start offset
			s.recreate(false)
			s.produce(0, 3, 0)
			produced.Store(true)
		}
		return succeeds
	})
	s.eventually("reading all records", func() bool { return produced.Load() && p.readAll() })
	p.stop()
	s.finish()
}
