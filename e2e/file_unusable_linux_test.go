package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/loud"
)

// TestFullDiskStopsItsConsumerOnly: the consumer reports the full disk, commits nothing
// that its file lacks, and continues once there is space.
func TestFullDiskStopsItsConsumerOnly(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	disk := mountDisk(t, s.dir, "size=256k")
	topic := s.newTopic(t, "full", 2)
	e, safe := s.entry("full", topic).withPath(filepath.Join(disk, "out.log")), s.entry("safe", topic)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(e, safe)})
	a.WaitState("full", "RUNNING")
	const each = 20_000 // of 30 bytes and more, in each of two partitions
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: each})
	if c := a.WaitState("full", "ERROR"); !strings.Contains(c.Error(), e.path) || !strings.Contains(c.Error(), "no space") {
		t.Errorf("the error %q does not name %s or the full disk", c.Error(), e.path)
	}
	s.waitCommitted(t, a, safe, 2*each)
	was, failing := identify(t, a.Consumer("safe")), a.Consumer("full")
	committed, tr := s.Committed(t, e.group, topic), readTrail(t, e.path)
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
	readTrail(t, e.path).wantExact(t, topic, 2, each)
	wantSame(t, a, "safe", was)
	if healed.ID != failing.ID {
		t.Error("the full disk changed the consumer's id")
	}
}

// TestUnusableFileIsNamedUntilItIsRepaired: consumers whose files or checkpoints cannot be
// used report the path, the cause and what to do, write nothing, and continue once they
// are repaired. Another consumer is not touched.
func TestUnusableFileIsNamedUntilItIsRepaired(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	disk := mountDisk(t, s.dir, "size=8m")
	topic := s.newTopic(t, "unusable", 2)
	readonly := s.entry("readonly", topic).withPath(filepath.Join(disk, "out.log"))
	short, torn, safe := s.entry("short", topic), s.entry("torn", topic), s.entry("safe", topic)
	text := s.config(readonly, short, torn, safe)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, Count: 300})
	a := agenttest.Start(t, agenttest.Options{Config: text})
	for _, e := range []entry{readonly, short, torn, safe} {
		s.waitCommitted(t, a, e, 600)
	}
	stopAgent(t, a)

	if err := unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(short.path)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, err := os.ReadFile(torn.path + "+checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(short.path, 100); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(torn.path+"+checkpoint", 50); err != nil {
		t.Fatal(err)
	}
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 2, First: 300, Count: 300})
	a = agenttest.Start(t, agenttest.Options{Config: text})
	s.waitCommitted(t, a, safe, 1200)
	was := identify(t, a.Consumer("safe"))
	for _, want := range []struct {
		entry
		cause, step string
	}{
		{readonly, "read-only file system", "mount it for writing"},
		{short, "requires", "restore the file"},
		{torn, "damaged", "restore it"},
	} {
		if c := a.WaitState(want.name, "ERROR"); !strings.Contains(c.Error(), want.path) || !strings.Contains(c.Error(), want.cause) || !strings.Contains(c.Error(), want.step) {
			t.Errorf("the error of %s is %q, want the path, %q and %q", want.name, c.Error(), want.cause, want.step)
		}
	}
	if n := len(lines(t, short.path)); n > 3 {
		t.Errorf("%d lines were written to a file that the checkpoint does not match", n)
	}

	if err := unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(short.path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(torn.path+"+checkpoint", checkpoint, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, e := range []entry{readonly, short, torn, safe} {
		s.waitCommitted(t, a, e, 1200)
		readTrail(t, e.path).wantExact(t, topic, 2, 600)
	}
	wantSame(t, a, "safe", was)
}

// mountDisk mounts a tmpfs with these options below dir until the end of the test, and
// returns its path. It skips the test, with a notice, where it lacks the permission.
func mountDisk(t *testing.T, dir, options string) string {
	t.Helper()
	disk := filepath.Join(dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, options); err != nil {
		loud.Skip(t, "KCAGENT_REQUIRE_MOUNT", fmt.Sprintf("a small disk cannot be mounted (root is required): %v", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return disk
}
