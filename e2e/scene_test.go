package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// A scene is what one test works with: topics, groups and files of its own on
// a cluster that may be shared.
type scene struct {
	*kafkatest.Cluster
	dir    string
	suffix string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	return &scene{Cluster: kafka.Cluster(t), dir: t.TempDir(), suffix: fmt.Sprintf("%08x", rand.Uint32())}
}

// topic makes a topic. Its name is the test's own, whatever name says.
func (s *scene) newTopic(t *testing.T, name string, partitions int32) string {
	t.Helper()
	topic := name + "-" + s.suffix
	s.CreateTopic(t, topic, partitions)
	return topic
}

// entry is a consumer of this scene: it writes raw values to a file that is
// called like it, and flushes often, for tests wait for it.
func (s *scene) entry(name string, topics ...string) entry {
	return entry{
		name: name, cluster: "main", topics: topics, group: name + "-" + s.suffix, format: "raw",
		path: filepath.Join(s.dir, name+".log"), flush: "{interval: 200ms}",
	}
}

// file is the text of a file with these consumers on the scene's cluster.
func (s *scene) config(entries ...entry) string {
	return configText(map[string][]string{"main": s.Addrs()}, entries...)
}

// keepProducing produces records to every partition until stop is called;
// produced is how many each got.
func (s *scene) keepProducing(t *testing.T, topic string, partitions int32) (stop func(), produced func() int) {
	t.Helper()
	return s.keepProducingEvery(t, 0, topic, partitions)
}

// keepProducingEvery is keepProducing with a pause after each hundred records.
func (s *scene) keepProducingEvery(t *testing.T, pause time.Duration, topic string, partitions int32) (stop func(), produced func() int) {
	t.Helper()
	n := 0
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-time.After(pause):
			}
			const count = 100
			s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: n, Count: count})
			n += count
		}
	}()
	stop = sync.OnceFunc(func() { close(quit); <-done })
	t.Cleanup(stop)
	return stop, func() int { return n }
}

// waitCommitted waits until a consumer has committed n records on the broker
// and says so itself. In the topics of these tests that is the sum of offsets.
func (s *scene) waitCommitted(t *testing.T, a *agenttest.Agent, e entry, n int64) {
	t.Helper()
	a.WaitConsumer(e.name, fmt.Sprintf("commit %d records", n), func(c agenttest.Consumer) bool {
		return c.Lag == 0 && c.Committed() >= n
	})
	if got := s.committed(t, e); got != n {
		t.Fatalf("%s has committed %d records on the broker, want %d", e.name, got, n)
	}
}

// committed sums what the broker holds as committed by a consumer's group.
func (s *scene) committed(t *testing.T, e entry) int64 {
	t.Helper()
	var sum int64
	for _, topic := range e.topics {
		for _, offset := range s.Committed(t, e.group, topic) {
			sum += offset
		}
	}
	return sum
}

// wantResets demands that so many partitions were reset by policy, or moved by others.
func (s *scene) wantResets(t *testing.T, a *agenttest.Agent, e entry, want float64) {
	t.Helper()
	if n, _ := a.Metrics().Value("kcagent_consumer_offset_resets_total", "consumer="+e.name); n != want {
		t.Errorf("%v resets of %s are counted, want %v", n, e.name, want)
	}
}

func stopAgent(t *testing.T, a *agenttest.Agent) {
	t.Helper()
	a.Signal(os.Interrupt)
	if code := a.WaitExit(wait.Timeout); code != 0 {
		t.Fatalf("exit code %d", code)
	}
}

// An identity is what must not change of a consumer that nobody touches.
type identity struct {
	id, members          string
	generation           int32
	rebalances, restarts int64
	created              time.Time
}

// identify takes the identity of a consumer that is a member of its group.
func identify(t *testing.T, c agenttest.Consumer) identity {
	t.Helper()
	if c.ID == "" || len(c.MemberIDs) == 0 {
		t.Fatalf("%s has id %q and members %v, want both", c.Name, c.ID, c.MemberIDs)
	}
	return identity{
		id: c.ID, members: strings.Join(c.MemberIDs, " "), generation: c.Generation,
		rebalances: c.RebalancesTotal, restarts: c.RestartsTotal, created: c.CreatedAt,
	}
}

// wantSame demands that a consumer is who it was.
func wantSame(t *testing.T, a *agenttest.Agent, name string, was identity) {
	t.Helper()
	if is := identify(t, a.Consumer(name)); is != was {
		t.Fatalf("%s was touched: it was %+v and is %+v", name, was, is)
	}
}

// put replaces a file in one step.
func replaceFile(t *testing.T, dir, name string, text []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".tmp", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}
