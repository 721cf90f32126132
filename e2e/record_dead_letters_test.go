package e2e

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestKillsLeaveEachRecordInOneFile kills the agent at random moments while it writes records
// and dead letters. Together the two files hold each record once, each in the right file.
func TestKillsLeaveEachRecordInOneFile(t *testing.T) {
	t.Parallel()
	const partitions, kills, each = 3, 8, 2000
	s := newScene(t)
	topic := s.newTopic(t, "decoded", partitions)
	dead := filepath.Join(s.dir, "dead.jsonl")
	e := s.entry("decoded", topic).withFormat("json").withFlush("{interval: 50ms}").
		with("decode: {value: json}").with("on_error: {dead_letter: {file: {path: '" + dead + "', rotate: {size: 200KiB}}}}")
	isBad := func(seq int) bool { return seq%7 == 3 || seq/500%3 == 1 } // alone, and in rows
	value := func(topic string, partition int32, seq int) []byte {
		if isBad(seq) {
			return kafkatest.Value(topic, partition, seq)
		}
		return fmt.Appendf(nil, `{"seq": %d}`, seq)
	}
	for i := range kills {
		a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
		a.WaitState(e.name, "RUNNING")
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: i * each, Count: each, Value: value})
		<-time.After(rand.N(200 * time.Millisecond))
		a.Kill()
		s.Evict(t, e.group) // instead of waiting for the end of the session
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, partitions*kills*each)
	stopAgent(t, a) // otherwise rotation may complete a file while it is read
	records, letters := allFiles(t, e.path), allFiles(t, dead)
	out, err := exec.Command(agenttest.Binary(t), append([]string{"verify"}, append(records, letters...)...)...).CombinedOutput()
	if err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
	if n := strings.Count(string(out), topic); n < partitions {
		t.Errorf("verify has seen too few partitions:\n%s", out)
	}
	want := 0
	for seq := range kills * each {
		if isBad(seq) {
			want += partitions
		}
	}
	if n := readTrail(t, letters...).len(); n != want { // which reads the form of kafkatest.Value alone
		t.Errorf("there are %d dead letters, want %d", n, want)
	}
}
