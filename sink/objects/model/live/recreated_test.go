package live

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kcagent/sink/objects/store/storetest"
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

// TestRecreatedWhileThePartitionIsNotRead: the topic is recreated while the sink has all that it takes,
// or all records of a plan that was found, and the store rejects uploads. Once the store accepts them,
// the consumer reads the new topic.
func TestRecreatedWhileThePartitionIsNotRead(t *testing.T) {
	for name, found := range map[string]bool{"the sink is full": false, "a plan is completed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, 1, true, "size: 64KiB, every: 1s")
			if found {
				s.produce(0, 30, 0)
				<-s.launch(func(call string) fate {
					if strings.HasPrefix(call, "put") {
						return crashes
					}
					return succeeds
				}).done
			}
			var mu sync.Mutex
			keys := make(map[string]bool) // of ranges that are closed
			var back atomic.Bool
			p := s.launch(func(call string) fate {
				op, key, _ := strings.Cut(call, " ")
				mu.Lock()
				defer mu.Unlock()
				if op == storetest.Head {
					keys[key] = true
				}
				if op == storetest.Put && !back.Load() {
					return fails
				}
				return succeeds
			})
			closed := func() int {
				mu.Lock()
				defer mu.Unlock()
				return len(keys)
			}
			if found {
				s.eventually("reading the records of the plan", func() bool { return closed() == 1 })
			}
			for n := closed(); !found && n < 2; n++ { // the sink takes no third range
				s.produce(0, 3, 40000)
				s.eventually("a closed range", func() bool { return closed() > n })
			}
			s.recreate(false)
			s.produce(0, 3, 0)
			s.eventually("the new topic", func() bool { return p.refresh() == s.topicID })
			back.Store(true)
			s.eventually("reading the new topic", func() bool { // its end is before that of the former one
				read := p.consumer.Snapshot().Partitions
				return len(read) == 1 && read[0].NextOffset == 3
			})
			p.stop()
			s.finish()
		})
	}
}

// refresh requests the metadata of the topic, and returns its id.
func (p *process) refresh() (id string) {
	open := p.clusters.Open()
	if len(open) == 0 {
		return ""
	}
	_ = open[0].Refresh(p.scene.Context(), []string{topic})
	_, id = open[0].Identity(topic)
	return id
}
