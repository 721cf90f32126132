package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

func TestFullDisk(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	disk := filepath.Join(s.dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	topic := s.topic(t, "full", 2)
	e, safe := s.entry("full", topic).withPath(filepath.Join(disk, "out.log")), s.entry("safe", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.file(e, safe)})
	a.WaitState("full", "RUNNING")
	const each = 20_000 // of 30 bytes and more, in each of two partitions
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: each})
	if c := a.WaitState("full", "ERROR"); !strings.Contains(c.Error(), e.path) || !strings.Contains(c.Error(), "no space") {
		t.Errorf("the error %q does not name %s or the full disk", c.Error(), e.path)
	}
	s.waitCommitted(t, a, safe, 2*each)
	was, failing := identify(t, a.Consumer("safe")), a.Consumer("full")
	committed, tr := s.Committed(t, e.group, topic), follow(t, e.path)
	for p := range int32(2) {
		if n := tr.next(key(topic, p)); committed[p] > int64(n) {
			t.Errorf("committed %d of partition %d, the file ends before record %d", committed[p], p, n)
		}
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	healed := a.WaitState("full", "RUNNING")
	s.waitCommitted(t, a, e, 2*each)
	follow(t, e.path).wantExact(t, topic, 2, each)
	wantSame(t, a, "safe", was)
	if healed.ID != failing.ID {
		t.Error("the full disk changed the consumer's id")
	}
}
