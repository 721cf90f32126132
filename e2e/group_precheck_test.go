package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// validate runs validate --online and returns what it prints of errors; "" is nothing.
func validateOnline(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	replaceFile(t, dir, "consumers.yaml", []byte(text))
	out, err := exec.Command(agenttest.Binary(t), "validate", "--online", "--config", filepath.Join(dir, "consumers.yaml")).CombinedOutput()
	if err == nil {
		return ""
	}
	return string(out)
}

// foreign has a client of another kind in a group, with partitions.
func joinOtherClient(t *testing.T, s *scene, group, topic string, opts ...kgo.Opt) {
	t.Helper()
	assigned := make(chan struct{}, 64)
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(s.Addrs()...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ClientID("foreign"),
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
		t.Fatal("the foreign member got no partitions")
	}
}

// TestPreCheckRejectsIncompatibleGroup: what prevents a member from joining is found before it joins,
// and reported with the settings of the brokers. The group does not change.
func TestPreCheckRejectsIncompatibleGroup(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "foreign", 4)
	e := s.entry("foreign", topic)
	if got := validateOnline(t, s.config(e)); got != "" {
		t.Errorf("of a group that does not exist: %s", got)
	}
	long := strings.Replace(s.config(e), "  main: {", "  main: {session_timeout: 40m, ", 1)
	if got := validateOnline(t, long); !strings.Contains(got, "session_timeout 40m0s is outside the limits of the brokers, group.min.session.timeout.ms and group.max.session.timeout.ms") {
		t.Errorf("of a session timeout of 40 minutes: %s", got)
	}
	joinOtherClient(t, s, e.group, topic, kgo.Balancers(kgo.RangeBalancer()))
	if got := validateOnline(t, s.config(e)); !strings.Contains(got, `its members use assignor "range" and do not support assignor "sticky", which kcagent uses`) {
		t.Errorf("of a group with assignor range: %s", got)
	}
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{e.group}
	resp, err := req.RequestWith(t.Context(), s.Client())
	if err != nil || resp.Groups[0].State != "Stable" || len(resp.Groups[0].Members) != 1 {
		t.Errorf("the group is %+v, %v", resp, err)
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	a.WaitConsumer("foreign", "name the assignor", func(c agenttest.Consumer) bool {
		return c.Status == "ERROR" && strings.Contains(c.Error(), `use assignor "range" and do not support assignor "sticky"`)
	})
}

// TestConsumerProtocolMembersShareTheGroup: a group whose members use KIP-848 can be joined, and
// the probe does not object.
func TestConsumerProtocolMembersShareTheGroup(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "modern", 4)
	e := s.entry("modern", topic)
	beat := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	if resp, err := beat.RequestWith(t.Context(), s.Client()); err != nil || resp.ErrorCode == kerr.UnsupportedVersion.Code {
		t.Skip("this Kafka has no KIP-848")
	}
	joinOtherClient(t, s, e.group, topic, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
	if got := validateOnline(t, s.config(e)); got != "" {
		t.Error(got)
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	a.WaitConsumer("modern", "have its share", func(c agenttest.Consumer) bool {
		return c.Status == "RUNNING" && len(c.Partitions) == 2
	})
}

// TestPreCheckNamesUnreachableAdvertisedAddress: the bootstrap broker answers, but what it advertises
// cannot be reached. That is not in the file, so the error names the setting of the broker.
func TestPreCheckNamesUnreachableAdvertisedAddress(t *testing.T) {
	t.Parallel()
	var addr string
	hole := fmt.Sprintf("127.0.0.1:%d", kafkatest.FreePort(t))
	c := kafkatest.Start(t, kafkatest.Options{Advertise: func(at string) string {
		addr = at
		return hole
	}})
	s := newScene(t)
	s.Cluster = c
	topic := s.newTopic(t, "hidden", 1)
	e := s.entry("hidden", topic)
	// The first one is on a new cluster, which has no coordinator yet.
	if got := validateOnline(t, s.config(e)); got != "" {
		t.Errorf("of a new cluster: %s", got)
	}
	got := validateOnline(t, configText(map[string][]string{"main": {addr}}, e))
	if !strings.Contains(got, "reach the coordinator of group "+e.group+": broker 1 advertises "+hole+" (its advertised.listeners; not in the file): change that setting") {
		t.Errorf("found %s", got)
	}
}
