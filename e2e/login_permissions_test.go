package e2e

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestReadPermissionsAreEnough: the user of the agent needs READ for the topic and for the
// group, like any consumer. A permission that is missing, from the start or later, is an
// error that names the topic or the group, at the pre-check as well. The consumer recovers
// once it is granted.
func TestReadPermissionsAreEnough(t *testing.T) {
	t.Parallel()
	l := newLoginScene(t, kafkatest.Strict())
	topic, other := l.newTopic(t, "rights", 2), l.newTopic(t, "else", 1)
	replaceFile(t, l.dir, "main", []byte(kafkatest.PlainPassword))
	cluster := l.cluster("main", "PLAIN", kafkatest.PlainUser)
	allow := func(kind kmsg.ACLResourceType, name string) (revoke func()) {
		return l.Allow(t, kafkatest.PlainUser, kind, name, kmsg.ACLOperationRead)
	}
	const ofTopic, ofGroup = kmsg.ACLResourceTypeTopic, kmsg.ACLResourceTypeGroup
	plain, static := l.entry("plain", topic), l.entry("static", topic).static("host-1")
	pattern := l.entry("pattern").with("topics_regex: '-" + l.suffix + "$'").with("start: latest")
	groupless, topicless := l.entry("groupless", topic), l.entry("topicless", other)
	entries := []entry{plain, static, pattern}
	revoke := allow(ofTopic, topic)
	for _, e := range append(entries, topicless) {
		allow(ofGroup, e.group)
	}
	text := strings.Replace(configText(nil, append(entries, groupless, topicless)...), "clusters:\n", "clusters:\n"+cluster, 1)
	a := agenttest.Start(t, agenttest.Options{Config: text})
	f := l.newFeed(topic, 2)
	arrives := func(entries ...entry) {
		t.Helper()
		for _, e := range entries {
			a.WaitState(e.name, "RUNNING")
		}
		f.produce(t, 100)
		for _, e := range entries {
			l.waitCommitted(t, a, e.withTopics(topic), f.total())
			readTrail(t, e.path).wantExact(t, topic, 2, f.produced)
		}
	}
	arrives(entries...)
	fails := func(e entry, about, what string) {
		t.Helper()
		a.WaitConsumer(e.name, "report a missing permission", func(c agenttest.Consumer) bool {
			return c.Status == "ERROR" && strings.Contains(c.Error(), about) && strings.Contains(c.Error(), what)
		})
	}
	const noGroup, noTopic = "not authorized to access this group", "not authorized to access this topic"
	fails(groupless, groupless.group, noGroup)
	fails(topicless, other, noTopic)
	out, err := validateOnline(t, a.Path)
	if err == nil || strings.Count(out, " not authorized ") != 2 || !strings.Contains(out, groupless.group) || !strings.Contains(out, other) {
		t.Errorf("validate --online: %v\n%s", err, out)
	}
	allow(ofGroup, groupless.group)
	allow(ofTopic, other)
	l.Produce(t, kafkatest.Load{Topic: other, Partitions: 1, Count: 100})
	l.waitCommitted(t, a, topicless, 100)
	arrives(plain, static, groupless)

	revoke()
	f.produce(t, 100)
	for _, e := range []entry{plain, static, groupless} {
		fails(e, topic, noTopic)
	}
	allow(ofTopic, topic)
	arrives(plain, static, groupless)
	readTrail(t, topicless.path).wantExact(t, other, 1, 100)
	a.WaitConsumer("pattern", "follow both topics", func(c agenttest.Consumer) bool { return c.Status == "RUNNING" && len(c.Topics) == 2 })
}
