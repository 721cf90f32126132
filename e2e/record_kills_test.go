package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestKillsLeaveEachRecordOnce kills the agent at random moments while records arrive, in
// both formats, with and without compression and rotation, and requires each record once.
// KCAGENT_KILLS sets the number of kills; with more than the default of 20, it also kills
// the broker, on a cluster of its own.
func TestKillsLeaveEachRecordOnce(t *testing.T) {
	t.Parallel()
	kills, s := killsOr(t, 20), newScene(t)
	if kills > 20 {
		s.Cluster = kafkatest.Start(t, kafkatest.Options{})
	}
	const partitions = 4
	each := 100_000 / kills
	topic := s.newTopic(t, "once", partitions)
	entries := []entry{
		s.entry("plain", topic),
		s.entry("rotated", topic).withFormat("json").withSink("rotate: {size: 1MiB, every: 2s}"),
		s.entry("gzipped", topic).withSink("compression: gzip, rotate: {size: 100KiB}"),
		s.entry("zstd", topic).withFormat("json").withSink("compression: zstd, rotate: {size: 256KiB}"),
		s.entry("zstd-one-file", topic).withSink("compression: zstd"),
	}
	uncommitted := 0 // partitions with records that a kill left uncommitted
	for i := range kills {
		for k := range entries {
			entries[k] = entries[k].withFlush([]string{"{interval: 10ms}", "{interval: 300ms}", "{bytes: 200KB}"}[i%3])
		}
		a := agenttest.Start(t, agenttest.Options{Config: s.config(entries...), Args: []string{"--log-level", "warn"}})
		a.WaitState("plain", "RUNNING")
		s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, First: i * each, Count: each})
		<-time.After(rand.N(300 * time.Millisecond))
		a.Kill()
		for _, e := range entries {
			s.wantCommitsInCheckpoint(t, e, partitions, (i+1)*each, &uncommitted)
			wantReadable(t, e.path)
		}
		if kills > 20 && i%5 == 4 {
			s.Kill()
			s.Restart(t)
		}
		for _, e := range entries {
			s.Evict(t, e.group) // instead of waiting for the end of the session
		}
	}
	if uncommitted == 0 {
		t.Error("every kill came after all commits")
	}
	a := agenttest.Start(t, agenttest.Options{Config: s.config(entries...)})
	for _, e := range entries {
		s.waitCommitted(t, a, e, int64(partitions*each*kills))
	}
	stopAgent(t, a) // otherwise rotation may complete a file while it is read
	for _, e := range entries {
		readTrail(t, allFiles(t, e.path)...).wantExact(t, topic, partitions, each*kills)
		if e.format == "json" {
			if out, err := exec.Command(agenttest.Binary(t), append([]string{"verify"}, allFiles(t, e.path)...)...).CombinedOutput(); err != nil {
				t.Errorf("verify: %v\n%s", err, out)
			}
		}
	}
	for _, e := range entries[1:4] {
		if n := len(completeFiles(t, e.path)); n < 3 {
			t.Errorf("%s has %d complete files", e.name, n)
		}
	}
	t.Logf("%d kills left %d partitions with uncommitted records", kills, uncommitted)
}

// killsOr returns the number of kills: KCAGENT_KILLS, or n.
func killsOr(t *testing.T, n int) int {
	t.Helper()
	if text := os.Getenv("KCAGENT_KILLS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// wantCommitsInCheckpoint requires that the checkpoint covers every committed offset, and
// counts the partitions with fewer than n committed records in uncommitted.
func (s *scene) wantCommitsInCheckpoint(t *testing.T, e entry, partitions int32, n int, uncommitted *int) {
	t.Helper()
	text, err := os.ReadFile(e.path + "+checkpoint")
	if err != nil {
		text = nil // killed before the first record
	}
	for p, offset := range s.Committed(t, e.group, e.topics[0]) {
		if offset > 0 && !bytes.Contains(text, fmt.Appendf(nil, "%q:", strconv.Itoa(int(p)))) {
			t.Errorf("%s: %d of partition %d is committed, and the checkpoint is %s", e.name, offset, p, text)
		}
		if offset < int64(n) {
			*uncommitted++
		}
	}
}

// wantReadable requires that gzip and zstd can read the complete files.
func wantReadable(t *testing.T, path string) {
	t.Helper()
	for _, segment := range completeFiles(t, path) {
		tool := map[string]string{".gz": "gzip", ".zst": "zstd"}[filepath.Ext(segment)]
		if tool == "" {
			continue
		}
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("%v: only the library reads %s", err, segment)
			continue
		}
		if out, err := exec.Command(tool, "-t", "-q", segment).CombinedOutput(); err != nil {
			t.Errorf("%s -t %s: %v\n%s", tool, segment, err, out)
		}
	}
}
