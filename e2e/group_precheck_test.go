package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// validateText runs validate --online on a configuration file with this text, and returns its
// output if it reports errors, "" otherwise.
func validateText(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	replaceFile(t, dir, "consumers.yaml", []byte(text))
	if out, err := validateOnline(t, filepath.Join(dir, "consumers.yaml")); err != nil {
		return out
	}
	return ""
}

// joinOtherClient starts a franz-go consumer in a group and returns when it has
// partitions.
func joinOtherClient(t *testing.T, s *scene, group, topic string, opts ...kgo.Opt) {
	t.Helper()
	assigned := make(chan struct{}, 64)
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(s.Addrs()...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ClientID("incompatible"),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { assigned <- struct{}{} }))...)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			c.PollFetches(ctx)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		c.Close()
	})
	select {
	case <-assigned:
	case <-time.After(time.Minute):
		t.Fatal("the other client got no partitions")
	}
}

// TestPreCheckRejectsIncompatibleGroup: the pre-check finds what prevents a member from
// joining, before it joins, and names the setting. The group does not change.
func TestPreCheckRejectsIncompatibleGroup(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "incompatible", 4)
	e := s.entry("incompatible", topic)
	if got := validateText(t, s.config(e)); got != "" {
		t.Errorf("group that does not exist: %s", got)
	}
	long := strings.Replace(s.config(e), "  main: {", "  main: {session_timeout: 40m, ", 1)
	if got := validateText(t, long); !strings.Contains(got, "session_timeout 40m0s is outside the limits of the brokers, group.min.session.timeout.ms and group.max.session.timeout.ms") {
		t.Errorf("session timeout of 40 minutes: %s", got)
	}
	joinOtherClient(t, s, e.group, topic, kgo.Balancers(kgo.RangeBalancer()))
	if got := validateText(t, s.config(e)); !strings.Contains(got, `its members use assignor "range" and do not support assignor "sticky", which kcagent uses`) {
		t.Errorf("group with assignor range: %s", got)
	}
	if g := s.Group(t, e.group); g.State != "Stable" || len(g.Members) != 1 {
		t.Errorf("the group is %+v", g)
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	a.WaitConsumer("incompatible", "name the assignor", func(c agenttest.Consumer) bool {
		return c.Status == "ERROR" && strings.Contains(c.Error(), `use assignor "range" and do not support assignor "sticky"`)
	})
}

// TestConsumerProtocolMembersShareTheGroup: an agent can join a group whose members use
// the consumer protocol (KIP-848), and the pre-check accepts the group.
func TestConsumerProtocolMembersShareTheGroup(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "modern", 4)
	e := s.entry("modern", topic)
	if strings.HasPrefix(s.Version(), "3.") {
		t.Skip("Kafka 3 does not enable KIP-848 by default")
	}
	joinOtherClient(t, s, e.group, topic, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
	if got := validateText(t, s.config(e)); got != "" {
		t.Error(got)
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	a.WaitConsumer("modern", "have its share", func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && len(c.Partitions) == 2
	})
}

// TestPreCheckNamesUnreachableAdvertisedAddress: the bootstrap broker responds, but the
// address that it advertises is unreachable. The file does not contain that address, so
// the error names the setting of the broker.
func TestPreCheckNamesUnreachableAdvertisedAddress(t *testing.T) {
	t.Parallel()
	var addr string
	unreachable := fmt.Sprintf("127.0.0.1:%d", kafkatest.FreePort(t))
	s := newSceneOn(t, kafkatest.Start(t, kafkatest.Options{Advertise: func(at string) string {
		addr = at
		return unreachable
	}}))
	topic := s.newTopic(t, "hidden", 1)
	e := s.entry("hidden", topic)
	// A new cluster has no coordinator yet.
	if got := validateText(t, s.config(e)); got != "" {
		t.Errorf("new cluster: %s", got)
	}
	got := validateText(t, configText(map[string][]string{"main": {addr}}, e))
	if !strings.Contains(got, "reach the coordinator of group "+e.group+": broker 1 advertises "+unreachable+" (its advertised.listeners; not in the file): change that setting") {
		t.Errorf("advertised address: %s", got)
	}
}
