package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/wait"
)

// A scene is the environment of one test: topics, groups and files of its own on a cluster
// that may be shared.
type scene struct {
	*kafkatest.Cluster
	dir    string // of the test's files
	suffix string // of the names of topics and groups
}

// newScene returns a scene on the shared cluster.
func newScene(t *testing.T) *scene {
	t.Helper()
	return newSceneOn(t, kafka.Cluster(t))
}

// newSceneOn returns a scene on a cluster of the test.
func newSceneOn(t *testing.T, c *kafkatest.Cluster) *scene {
	t.Helper()
	return &scene{Cluster: c, dir: t.TempDir(), suffix: fmt.Sprintf("%08x", rand.Uint32())}
}

// newTopic creates a topic. The suffix makes its name unique.
func (s *scene) newTopic(t *testing.T, name string, partitions int32) string {
	t.Helper()
	topic := name + "-" + s.suffix
	s.CreateTopic(t, topic, partitions)
	return topic
}

// entry returns a consumer that writes raw values to NAME.log in the scene's folder. It
// flushes often, because tests wait for commits.
func (s *scene) entry(name string, topics ...string) entry {
	return entry{
		name: name, cluster: "main", topics: topics, group: name + "-" + s.suffix, format: "raw",
		path: filepath.Join(s.dir, name+".log"), flush: "{interval: 200ms}",
	}
}

// config returns a configuration file with these consumers of the scene's cluster.
func (s *scene) config(entries ...entry) string {
	return configText(map[string][]string{"main": s.Addrs()}, entries...)
}

// A feed produces records to a topic that has no other producer, so that the number of a
// record is its offset.
type feed struct {
	*scene
	topic      string
	partitions int32
	produced   int // records in each partition
	// value returns the value of a record; nil means [kafkatest.Value].
	value func(topic string, partition int32, seq int) []byte
}

func (s *scene) newFeed(topic string, partitions int32) *feed {
	return &feed{scene: s, topic: topic, partitions: partitions}
}

// produce produces count further records to each partition.
func (f *feed) produce(t *testing.T, count int) {
	t.Helper()
	f.Produce(t, kafkatest.Load{Topic: f.topic, Partitions: f.partitions, First: f.produced, Count: count, Value: f.value})
	f.produced += count
}

// total returns the number of records in all partitions.
func (f *feed) total() int64 { return int64(f.produced) * int64(f.partitions) }

// keepProducing produces records to every partition until stop is called. After that,
// produced returns the number of records in each.
func (s *scene) keepProducing(t *testing.T, topic string, partitions int32) (stop func(), produced func() int) {
	t.Helper()
	return s.keepProducingEvery(t, 0, topic, partitions)
}

// keepProducingEvery is keepProducing with a pause after each hundred records.
func (s *scene) keepProducingEvery(t *testing.T, pause time.Duration, topic string, partitions int32) (stop func(), produced func() int) {
	t.Helper()
	f := s.newFeed(topic, partitions)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-time.After(pause):
			}
			f.produce(t, 100)
		}
	}()
	stop = sync.OnceFunc(func() { close(quit); <-done })
	t.Cleanup(stop)
	return stop, func() int { return f.produced }
}

// waitCommitted waits until a consumer reports n committed records and no lag, and requires
// the same of the broker. In the topics of these tests, offsets count records.
func (s *scene) waitCommitted(t *testing.T, a *agenttest.Agent, e entry, n int64) {
	t.Helper()
	a.WaitConsumer(e.name, fmt.Sprintf("commit %d records", n), func(c agenttest.Consumer) bool {
		return c.HasLag(0) && c.Committed() >= n
	})
	if got := s.committed(t, e); got != n {
		t.Fatalf("%s has committed %d records on the broker, want %d", e.name, got, n)
	}
}

// waitGroupCommitted waits until the group of a consumer, which several agents may share,
// has committed n records.
func (s *scene) waitGroupCommitted(t *testing.T, e entry, n int64) {
	t.Helper()
	wait.For(t, wait.Timeout, "the commits of group "+e.group, func() error {
		if got := s.committed(t, e); got != n {
			return fmt.Errorf("%d of %d records are committed", got, n)
		}
		return nil
	})
}

// committed returns the sum of the committed offsets of a consumer's group.
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

// wantResets requires a number of partitions whose offset was reset by policy or changed
// externally.
func (s *scene) wantResets(t *testing.T, a *agenttest.Agent, e entry, want float64) {
	t.Helper()
	if n, _ := a.Metrics().Value("kcagent_consumer_offset_resets_total", "consumer="+e.name); n != want {
		t.Errorf("%v resets of %s are counted, want %v", n, e.name, want)
	}
}

// stopAgent ends an agent by SIGINT and requires a clean end.
func stopAgent(t *testing.T, a *agenttest.Agent) {
	t.Helper()
	a.Signal(os.Interrupt)
	if code := a.WaitExit(wait.Timeout); code != 0 {
		t.Fatalf("the agent ended with exit code %d", code)
	}
}

// validateOnline runs validate --online on a configuration file. The error is that of the
// command's exit code.
func validateOnline(t *testing.T, path string) (output string, err error) {
	t.Helper()
	out, err := exec.Command(agenttest.Binary(t), "validate", "--online", "--config", path).CombinedOutput()
	return string(out), err
}

// An identity holds what changes if a consumer rejoins its group, restarts or is replaced.
type identity struct {
	id, members          string
	generation           int32
	rebalances, restarts int64
	created              time.Time
}

// identify returns the identity of a consumer, which must be a member of its group.
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

// wantSame requires that a consumer still has its identity.
func wantSame(t *testing.T, a *agenttest.Agent, name string, was identity) {
	t.Helper()
	if is := identify(t, a.Consumer(name)); is != was {
		t.Fatalf("%s was touched: it was %+v and is %+v", name, was, is)
	}
}

// replaceFile replaces a file atomically.
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
