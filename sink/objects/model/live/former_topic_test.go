package live

import (
	"fmt"
	"strings"
	"testing"

	"kcagent/agent/consumer"
)

// TestObjectOfAFormerTopicIsNotReplaced: the key has no topic id, and the topic is recreated. The sink
// finds the object of the former topic before it plans, and the consumer fails. An edit of the key
// resolves that, and nothing is lost.
func TestObjectOfAFormerTopicIsNotReplaced(t *testing.T) {
	for _, conditional := range []bool{true, false} {
		t.Run(fmt.Sprintf("conditional=%v", conditional), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, 1, conditional, "size: 1MiB, every: 1s")
			s.settings.key = "{topic}/{partition}-{first}-{last}"
			s.produce(0, 3, 0)
			p := s.launch(nil)
			s.eventually("reading all records", p.readAll)
			p.stop()
			s.recreate(false)
			s.produce(0, 3, 0)
			p = s.launch(nil)
			s.eventually("an error", func() bool {
				b := p.consumer.Brief()
				return b.State == consumer.Failing && strings.Contains(b.Fault, "the key is used by another object")
			})
			if c := s.commits()[0]; c.offset != 0 || c.open {
				t.Errorf("committed %d, plan open=%v", c.offset, c.open)
			}
			p.dies() // a stop would wait for the upload
			p.stop()
			s.edit(0)
			s.finish()
		})
	}
}
