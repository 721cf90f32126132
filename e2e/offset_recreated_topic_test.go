package e2e

import (
	"fmt"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestRecreatedTopicIsReadByPolicy: offsets of a deleted topic do not apply to a topic
// that is created under its name, even if that is longer. The policy for offsets out of
// range applies.
func TestRecreatedTopicIsReadByPolicy(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprintf("running=%v", running), func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			topic := s.newTopic(t, "recreated", 1)
			e, strict := s.entry("recreated", topic), s.entry("strict", topic).with("on_offset_out_of_range: fail")
			// Without a checkpoint that knows the old topic, the consumer must notice the deletion.
			loose := s.entry("loose", topic).with("start: latest").withSink("delivery: at_least_once")
			s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 500})
			text := s.config(e, strict, loose)
			a := agenttest.Start(t, agenttest.Options{Config: text})
			a.WaitState("loose", "RUNNING")
			s.waitCommitted(t, a, e, 500)
			s.waitCommitted(t, a, strict, 500)
			if !running {
				stopAgent(t, a)
			}
			s.DeleteTopic(t, topic)
			s.CreateTopic(t, topic, 1)
			s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 800})
			if !running {
				a = agenttest.Start(t, agenttest.Options{Config: text})
			}
			s.waitCommitted(t, a, e, 800)
			readTrail(t, e.path).wantSeqs(t, key(topic, 0), upTo(500), upTo(800))
			if running {
				s.waitCommitted(t, a, loose, 800)
				readTrail(t, loose.path).wantSeqs(t, key(topic, 0), upTo(800))
				s.wantResets(t, a, loose, 1)
			}
			s.wantResets(t, a, e, 1)
			if c := a.WaitState("strict", "ERROR"); !strings.Contains(c.Error(), topic) || !strings.Contains(c.Error(), "on_offset_out_of_range is fail") {
				t.Errorf("the error of strict is %q", c.Error())
			}
			readTrail(t, strict.path).wantSeqs(t, key(topic, 0), upTo(500))
		})
	}
}
