package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/e2e/agenttest"
)

// TestLogExplainsGapsOfObjects: an aborted transaction leaves a gap between two ranges, which the log
// explains. Once the object of a range is deleted, its records are missing.
func TestLogExplainsGapsOfObjects(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "gaps", 1)
	e := s.entry("gaps", topic)
	folder := filepath.Join(s.dir, "lake")
	e.objects = fmt.Sprintf("url: 'file://%s', spool: '%s/spool', key: '{topic}/{partition}-{first}-{last}-{topic_id}', rotate: {every: 1h}", folder, s.dir)
	file := filepath.Join(s.dir, "verified.yaml")
	if err := os.WriteFile(file, []byte(s.config(e)), 0o600); err != nil {
		t.Fatal(err)
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	tx := s.newProducer(t, topic, kgo.TransactionalID(topic))
	var end int64
	for _, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit, kgo.TryCommit} {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produceValues(t, tx, "a", "b", "c")
		if err := tx.EndTransaction(context.Background(), commit); err != nil {
			t.Fatal(err)
		}
		end += 4 // with the marker
		a.WaitConsumer(e.name, "read the transaction", func(c agenttest.Consumer) bool {
			return c.HasLag(0) && c.Partitions[0].HighWaterMark == end
		})
		a.Apply(s.config(e.withState("paused"))) // which publishes the range
		a.WaitConsumer(e.name, "publish the range", func(c agenttest.Consumer) bool { return c.Status == "PAUSED" && c.Committed() == end })
		a.Apply(s.config(e))
		a.WaitState(e.name, "RUNNING")
	}
	verify := func(args ...string) (out string, good bool) {
		text, err := exec.Command(agenttest.Binary(t), append([]string{"verify", "--config", file}, args...)...).CombinedOutput()
		return string(text), err == nil
	}
	if out, good := verify(); good || !strings.Contains(out, "to 7 before") || !strings.Contains(out, "only the log can explain it") {
		t.Errorf("from the keys alone: %v\n%s", good, out)
	}
	if out, good := verify("--deep"); !good || !strings.Contains(out, "explained: the log has no record there that the consumer writes") {
		t.Errorf("with the log: %v\n%s", good, out)
	}
	deleted, err := filepath.Glob(filepath.Join(folder, topic, fmt.Sprintf("0-%020d-*", 8)))
	if err != nil || len(deleted) != 1 {
		t.Fatalf("%v, %v", deleted, err)
	}
	if err := os.Remove(deleted[0]); err != nil {
		t.Fatal(err)
	}
	if out, good := verify("--deep", "--allow-holes"); good || !strings.Contains(out, topic+"/0: offsets 8 to 10 are missing at ") {
		t.Errorf("without an object: %v\n%s", good, out)
	}
}
