package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/e2e/agenttest"
)

// TestTakeOverFromAnotherProgram: a group that a member with another assignor consumed
// continues at its committed offsets, whatever start says, once that member has left. While
// it is a member, the pre-check names its assignor. The assignors are those of
// docs/migration.md. The other program can go back to the group in the same way.
func TestTakeOverFromAnotherProgram(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	for name, balancers := range map[string][]kgo.GroupBalancer{
		"vector":           {kgo.RangeBalancer(), kgo.RoundRobinBalancer()},
		"telegraf":         {kgo.RangeBalancer()},
		"redpanda-connect": {kgo.CooperativeStickyBalancer()},
		"kafka-connect":    {kgo.RangeBalancer(), kgo.CooperativeStickyBalancer()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := s.newTopic(t, name, 1)
			e := s.entry(name, topic).with("start: latest")
			f := s.newFeed(topic, 1)
			f.produce(t, 100)
			leave := s.consumeOnce(t, e.group, topic, 100, kgo.Balancers(balancers...))
			f.produce(t, 100)
			if got := validateText(t, s.config(e)); !strings.Contains(got, `do not support assignor "sticky", which kcagent uses`) {
				t.Errorf("while the other program is a member: %q", got)
			}
			leave()
			if got := validateText(t, s.config(e)); got != "" {
				t.Errorf("after the other program has left: %s", got)
			}
			a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
			s.waitCommitted(t, a, e, f.total())
			readTrail(t, e.path).wantSeqs(t, key(topic, 0), seqRange(100, 200))
			s.wantResets(t, a, e, 0)
			if log := a.Log(); !strings.Contains(log, "a group member of another client continued with the partition; resuming at its committed offset") {
				t.Error("the log does not say that the offset is from another client")
			}

			stopAgent(t, a)
			f.produce(t, 50)
			s.consumeOnce(t, e.group, topic, 50, kgo.Balancers(balancers...))()
			if got := s.committed(t, e); got != f.total() {
				t.Errorf("the other program went back to the group and committed %d, want %d", got, f.total())
			}
		})
	}
}

// consumeOnce starts a member of another client, and returns when it has consumed and
// committed the first n records of a topic. The member leaves its group when leave is called.
func (s *scene) consumeOnce(t *testing.T, group, topic string, n int, opts ...kgo.Opt) (leave func()) {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(s.Addrs()...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for got := 0; got < n; {
		fetches := c.PollRecords(ctx, n-got)
		if err := fetches.Err(); err != nil {
			t.Fatalf("the other client: %v", err)
		}
		got += fetches.NumRecords()
	}
	if err := c.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatalf("the other client: %v", err)
	}
	return c.Close
}
