package e2e

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
)

// TestCheckpointOfALaterVersion: a consumer that finds a checkpoint in a later format goes to
// ERROR, and neither its file nor its committed offset changes. Once file and checkpoint are
// moved away, it starts a new file at the committed offset.
func TestCheckpointOfALaterVersion(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "later", 1)
	e := s.entry("later", topic)
	f := s.newFeed(topic, 1)
	f.produce(t, 100)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	s.waitCommitted(t, a, e, 100)
	stopAgent(t, a)

	later := inLaterFormat(t, e.path+"+checkpoint")
	f.produce(t, 50)
	a = agenttest.Start(t, agenttest.Options{Config: s.config(e)})
	a.WaitConsumer(e.name, "report the format", func(c agenttest.Consumer) bool {
		return c.Status == "ERROR" && strings.Contains(c.Error(), "checkpoint has format 3, and this version of kcagent reads format 2: run the version that wrote it")
	})
	if got := s.committed(t, e); got != 100 {
		t.Errorf("%d records are committed, want 100", got)
	}
	readTrail(t, e.path).wantSeqs(t, key(topic, 0), upTo(100))
	if got, err := os.ReadFile(e.path + "+checkpoint"); err != nil || !bytes.Equal(got, later) {
		t.Errorf("the checkpoint has changed: %v", err)
	}

	away := filepath.Join(t.TempDir(), "away.log")
	for _, suffix := range []string{"", "+checkpoint"} {
		if err := os.Rename(e.path+suffix, away+suffix); err != nil {
			t.Fatal(err)
		}
	}
	s.waitCommitted(t, a, e, 150)
	readTrail(t, e.path).wantSeqs(t, key(topic, 0), seqRange(100, 150))
}

// inLaterFormat replaces a checkpoint by one in the next format, with an additional field, and
// returns its content.
func inLaterFormat(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`kcagent checkpoint 2 (seq=[0-9a-f]{16}) bytes=[0-9a-f]{8} crc32c=[0-9a-f]{8}\n\{(.*)\n`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no checkpoint in %q", text)
	}
	body := `{"later":true,` + string(m[2]) + "\n"
	head := fmt.Sprintf("kcagent checkpoint 3 %s bytes=%08x crc32c=", m[1], len(body))
	sum := crc32.Checksum([]byte(head+body), crc32.MakeTable(crc32.Castagnoli))
	later := fmt.Appendf(nil, "%s%08x\n%s", head, sum, body)
	if err := os.WriteFile(path, later, 0o600); err != nil {
		t.Fatal(err)
	}
	return later
}
