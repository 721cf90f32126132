package agent

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/consumer"
	"kcagent/agent/web"
	"kcagent/config"
)

func (r *rig) makeTopic(name string) {
	r.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 5000
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, 1, 1
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(context.Background(), r.client)
	if err != nil || resp.Topics[0].ErrorCode != 0 {
		r.Fatal(err, resp)
	}
}

func (r *rig) dropTopic(name string) {
	r.Helper()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TopicNames = []string{name}
	topic := kmsg.NewDeleteTopicsRequestTopic()
	topic.Topic = &name
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(context.Background(), r.client)
	if err != nil || resp.Topics[0].ErrorCode != 0 {
		r.Fatal(err, resp)
	}
}

func (r *rig) produceTo(topic string, values ...string) {
	r.Helper()
	for _, v := range values {
		rec := &kgo.Record{Topic: topic, Value: []byte(v)}
		if err := r.client.ProduceSync(context.Background(), rec).FirstErr(); err != nil {
			r.Fatal(err)
		}
	}
}

// wantSorted is wantRecords for records of several partitions.
func (r *rig) wantSorted(want ...string) {
	r.Helper()
	r.eventually(strings.Join(want, " "), func() (bool, any) {
		got := r.memory.all()
		slices.Sort(got)
		return slices.Equal(got, want), got
	})
}

func (r *rig) wantTopics(want ...string) web.ConsumerStatus {
	r.Helper()
	var c web.ConsumerStatus
	r.eventually("topics "+strings.Join(want, " "), func() (bool, any) {
		c = r.consumer()
		return c.Status == consumer.Running && slices.Equal(c.Topics, want) && len(c.Partitions) >= len(want), c
	})
	return c
}

// connections returns the local addresses of the consumer's own connections, not of those
// of its cluster.
func (r *rig) connections() map[string]bool {
	addrs := make(map[string]bool)
	for _, conn := range r.running().Connections() {
		addrs[conn.LocalAddr().String()] = true
	}
	return addrs
}

func TestResubscribeKeepsTheMember(t *testing.T) {
	r := newRig(t, 1)
	r.makeTopic("u")
	r.edit("")
	r.produce(0, "a", "b")
	r.wantRecords("t/0@0=a", "t/0@1=b")
	before := r.wantStatus(consumer.Running)
	conns := r.connections()

	r.edit(", topics: [t, u]")
	r.eventually("the new topic", func() (bool, any) {
		s := r.agent.Status()
		if c := s.Consumers[0]; len(c.Topics) == 2 && len(c.Partitions) < 2 && s.Config.State != "applying" {
			t.Errorf("the configuration is %s before the member has rejoined", s.Config.State)
		}
		return len(s.Consumers[0].Partitions) == 2, s
	})
	r.produceTo("u", "x")
	r.produce(0, "c")
	r.wantSorted("t/0@0=a", "t/0@1=b", "t/0@2=c", "u/0@0=x")
	after := r.consumer()
	if after.ID != before.ID || !slices.Equal(after.MemberIDs, before.MemberIDs) || after.RestartsTotal != 0 ||
		after.RebalancesTotal != before.RebalancesTotal+1 || r.memory.opens != 1 {
		t.Errorf("after the resubscription the consumer is %+v, was %+v, its sink was opened %d times", after, before, r.memory.opens)
	}
	if now := r.connections(); len(now) == 0 || !maps.Equal(now, conns) {
		t.Errorf("its connections are %v, were %v", now, conns)
	}

	r.edit(", topics: [u]")
	r.eventually("the release of t", func() (bool, any) { c := r.consumer(); return len(c.Partitions) == 1, c })
	r.produce(0, "d")
	r.produceTo("u", "y")
	r.wantSorted("t/0@0=a", "t/0@1=b", "t/0@2=c", "u/0@0=x", "u/0@1=y")
	if got := r.committed(0); got != 3 {
		t.Errorf("%d is committed of the topic that the group left, want 3", got)
	}
}

// TestPausedConsumerResubscribes: it stays paused, and continues with the new topics.
func TestPausedConsumerResubscribes(t *testing.T) {
	r := newRig(t, 1)
	r.makeTopic("u")
	r.edit(", state: paused")
	r.wantStatus(consumer.Paused)
	r.edit(", state: paused, topics: [t, u]")
	r.eventually("new topics", func() (bool, any) { c := r.consumer(); return len(c.Partitions) == 2, c })
	r.wantStatus(consumer.Paused)
	r.produceTo("u", "x")
	r.stillOnly()
	r.edit(", topics: [t, u]")
	r.wantSorted("u/0@0=x")
}

func TestPatternFollowsCreatedAndDeletedTopics(t *testing.T) {
	r := newRig(t, 1)
	r.agent.clusters.Rematch = 200 * time.Millisecond
	r.makeTopic("orders.eu")
	r.makeTopic("old.orders.eu")
	r.edit(`, topics_regex: '^orders\.'`)
	before := r.wantTopics("orders.eu")
	r.produceTo("orders.eu", "a")
	r.makeTopic("orders.us")
	r.produceTo("orders.us", "b")
	r.wantSorted("orders.eu/0@0=a", "orders.us/0@0=b")
	after := r.wantTopics("orders.eu", "orders.us")
	if after.ID != before.ID || !slices.Equal(after.MemberIDs, before.MemberIDs) || after.RestartsTotal != 0 {
		t.Errorf("a new topic made the consumer %+v, was %+v", after, before)
	}
	r.dropTopic("orders.eu")
	after = r.wantTopics("orders.us")
	if after.ID != before.ID || !slices.Equal(after.MemberIDs, before.MemberIDs) || after.RestartsTotal != 0 {
		t.Errorf("a deleted topic made the consumer %+v, was %+v", after, before)
	}
	r.dropTopic("orders.us")
	r.wantError(`no topic matches topics_regex ^orders\.`)
	r.makeTopic("orders.asia")
	r.produceTo("orders.asia", "c")
	r.wantSorted("orders.asia/0@0=c", "orders.eu/0@0=a", "orders.us/0@0=b")
	r.wantStatus(consumer.Running)
}

// TestPatternConsumersShareTopicLists: consumers with topics_regex share the lists of
// topics. They request no metadata of a topic that the list describes completely.
func TestPatternConsumersShareTopicLists(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.agent.clusters.Rematch = time.Second
	const consumers = 30
	text := fmt.Sprintf("defaults: {brokers: [%q], topics_regex: '^t$', sink: {stdout: {}}}\nconsumers:\n", r.cluster.ListenAddrs()[0])
	for i := range consumers {
		text += fmt.Sprintf("- name: c%d\n", i)
	}
	c, problems := config.Parse("consumers.yaml", []byte(text), os.LookupEnv)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r.updates <- config.Update{Config: c}
	r.eventually("all to run", func() (bool, any) {
		up := r.agent.Status().Summary[consumer.Running]
		return up == consumers, up
	})
	var lists, topics atomic.Int32
	r.cluster.ControlKey(int16(kmsg.Metadata), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		if k.(*kmsg.MetadataRequest).Topics == nil {
			lists.Add(1)
		} else {
			topics.Add(1)
		}
		return nil, nil, false
	})
	<-time.After(5 * time.Second)
	if lists.Load() == 0 || lists.Load() > 12 || topics.Load() > 4 {
		t.Errorf("%d consumers by pattern cost %d lists and %d requests for topics in five times the interval", consumers, lists.Load(), topics.Load())
	}
}

// TestEditEndsTheWaitBeforeARetry: a consumer that waits before a retry applies an
// edit at once.
func TestEditEndsTheWaitBeforeARetry(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.edit(", topics: [missing]")
	r.wantStatus(consumer.Failing)
	r.eventually("long waits", func() (bool, any) { c := r.consumer(); return c.RestartsTotal > 4, c })
	began := time.Now()
	r.edit(", topics: [t]")
	r.wantStatus(consumer.Running)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the edit took effect after %s", took)
	}
}

// TestMissingTopicDoesNotStopTheOthers: it is an error. Once the topic is created, it is
// read from its first record.
func TestMissingTopicDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.agent.clusters.Rematch = 100 * time.Millisecond
	r.produce(0, "a")
	r.edit(", topics: [t, later]")
	r.wantStatus(consumer.Failing)
	r.wantRecords("t/0@0=a")
	r.wantCommitted(0, 1)
	missing := func() {
		t.Helper()
		r.eventually("an error that names the topic", func() (bool, any) {
			c := r.consumer()
			return c.Status == consumer.Failing && strings.Contains(*c.LastError, `subscribe to topic "later"`) && len(c.Partitions) == 1, c
		})
	}
	missing()
	r.makeTopic("later")
	r.wantStatus(consumer.Running)
	r.produce(0, "b")
	r.wantCommitted(0, 2)
	if c := r.wantTopics("later", "t"); len(c.Partitions) != 2 {
		t.Errorf("in the end the consumer is %+v", c)
	}
	r.dropTopic("later")
	missing()
	r.produce(0, "c")
	r.wantCommitted(0, 3)
	r.wantRecords("t/0@0=a", "t/0@1=b", "t/0@2=c")
}
