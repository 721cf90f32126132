package metadata

import (
	"net"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"kcagent/e2e/badnet"
	"kcagent/fetch/dial"
	"kcagent/fetch/wire"
)

// TestTopicIDChangeNeedsSecondResponse: a broker that was partitioned off may report an old id, in every
// response.
func TestTopicIDChangeNeedsSecondResponse(t *testing.T) {
	old, young := sarama.Uuid{1}, sarama.Uuid{2}
	type answer struct {
		from string
		at   time.Duration
		id   sarama.Uuid
	}
	for _, c := range []struct {
		what    string
		answers []answer
		then    sarama.Uuid
		rival   bool
	}{
		{"one answer", []answer{{"a", 0, young}}, old, true},
		{"the same broker at once", []answer{{"a", 0, young}, {"a", 175 * time.Millisecond, young}}, old, true},
		{"the same broker later", []answer{{"a", 0, young}, {"a", time.Second, young}}, young, false},
		{"the same broker several times", []answer{{"a", 0, young}, {"a", 600 * time.Millisecond, young}, {"a", 1200 * time.Millisecond, young}}, young, false},
		{"another broker at once", []answer{{"a", 0, young}, {"b", 0, young}}, young, false},
		{"another broker denies it", []answer{{"a", 0, young}, {"b", 0, old}}, old, false},
		{"denied, then again at once", []answer{{"a", 0, young}, {"b", time.Second, old}, {"a", 1100 * time.Millisecond, young}}, old, true},
	} {
		began := time.Now()
		topic := &topic{}
		topic.updateID(old, "a", began)
		for _, a := range c.answers {
			topic.updateID(a.id, a.from, began.Add(a.at))
		}
		if topic.id != c.then.String() || (topic.rivalID != "") != c.rival {
			t.Errorf("%s: the id is %s, rival %q", c.what, topic.id, topic.rivalID)
		}
	}
}

// TestUnresponsiveBrokersAreDialledTogether: brokers that accept connections and do not respond are not
// waited for one after the other.
func TestUnresponsiveBrokersAreDialledTogether(t *testing.T) {
	t.Parallel()
	unresponsive := make([]string, 6)
	for i := range unresponsive {
		unresponsive[i] = badnet.Listen(t, func(net.Conn) {})
	}
	cluster := newCluster(t)
	for name, last := range map[string]string{"all": unresponsive[5], "but one": cluster.ListenAddrs()[0]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := start(t, append(unresponsive[:5:5], last)...)
			began := time.Now()
			err := client.Refresh(t.Context(), []string{"t"})
			if took := time.Since(began); took > 5*dial.ResponseTimeout || last != unresponsive[5] && took > 4*dial.ResponseTimeout {
				t.Errorf("it took %v", took)
			}
			if (err != nil) != (last == unresponsive[5]) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// TestTopicIDsOfFormerClusterAreForgotten: before the pin is final, another cluster can replace the first
// one.
func TestTopicIDsOfFormerClusterAreForgotten(t *testing.T) {
	c := NewClient(wire.NewOpener(dial.NewDialer(dial.NewPin(""), nil), nil, nil), nil, noLeaders{})
	tell := func(cluster string, id byte) {
		c.record(&sarama.TopicMetadata{Name: "t", Uuid: sarama.Uuid{id}}, cluster, "k:9092", time.Now())
	}
	tell("b", 1)
	if cluster, id := c.Identity("t"); cluster != "b" || id != (sarama.Uuid{1}).String() {
		t.Errorf("the topic has id %s in cluster %s, want both of the same response", id, cluster)
	}
	tell("a", 2)
	if cluster, id := c.Identity("t"); cluster != "a" || id != (sarama.Uuid{2}).String() {
		t.Errorf("the topic has id %s in cluster %s after its first response", id, cluster)
	}
}
