package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/wait"
)

// A statefulSet runs replicas of the agent as the Helm chart does: each has a name with its
// ordinal in POD_NAME, a volume of its own, and a mount of the one ConfigMap. Its consumers
// share their groups.
type statefulSet struct {
	*scene
	consumers  []entry // with groups and topics only
	partitions int     // of each consumer
	configMap  string  // the text of consumers.yaml
	binary     string  // of the image; empty stands for the tested one
	replicas   []*replica
	volumes    []string // by ordinal; they stay when a replica ends
}

// A replica is one pod.
type replica struct {
	*agenttest.Agent
	name   string
	mount  string // of the ConfigMap
	volume string
}

// launch starts the replica with an ordinal and waits until it is ready.
func (s *statefulSet) launch(t *testing.T, ordinal int) *replica {
	t.Helper()
	name := fmt.Sprintf("kcagent-%d", ordinal)
	if ordinal == len(s.volumes) {
		s.volumes = append(s.volumes, s.newFolder(t, "volume-"+name))
	}
	r := &replica{name: name, mount: filepath.Join(s.dir, "mount-"+name), volume: s.volumes[ordinal]}
	if _, err := os.Stat(r.mount); err != nil {
		s.newFolder(t, filepath.Base(r.mount))
	}
	r.project(t, s.configMap)
	r.Agent = agenttest.Start(t, agenttest.Options{
		Path: filepath.Join(r.mount, "consumers.yaml"), Binary: s.binary,
		Through: []string{"env", "POD_NAME=" + name, "DATA=" + r.volume},
	})
	wait.For(t, wait.Timeout, name+" to be ready", func() error {
		if code, body := r.Get("/readyz"); code != http.StatusOK {
			return fmt.Errorf("GET /readyz: code %d: %s", code, body)
		}
		return nil
	})
	return r
}

func (s *statefulSet) newFolder(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// project writes the ConfigMap into the mount of the replica as kubelet does.
func (r *replica) project(t *testing.T, configMap string) {
	t.Helper()
	cmd := exec.Command("bash", filepath.Join("testdata", "atomic-writer.sh"), r.mount)
	cmd.Stdin = strings.NewReader(configMap)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("update the mount of %s: %v\n%s", r.name, err, out)
	}
}

// terminate ends a replica as kubelet does, and requires a clean end.
func (r *replica) terminate(t *testing.T) {
	t.Helper()
	r.Signal(syscall.SIGTERM)
	if code := r.WaitExit(wait.Timeout); code != 0 {
		t.Fatalf("%s ended with exit code %d", r.name, code)
	}
}

// scale starts or terminates replicas, one after the other, until there are n. The replica
// with the highest ordinal is the last to start and the first to end. Kubernetes would start
// and end several at once under podManagementPolicy Parallel, which the chart sets.
func (s *statefulSet) scale(t *testing.T, n int) {
	t.Helper()
	for len(s.replicas) < n {
		s.replicas = append(s.replicas, s.launch(t, len(s.replicas)))
	}
	for len(s.replicas) > n {
		last := len(s.replicas) - 1
		s.replicas[last].terminate(t)
		s.replicas = s.replicas[:last]
	}
}

// upgrade replaces the binary of one replica after the other, the highest ordinal first.
// Each one is ready before the next one ends.
func (s *statefulSet) upgrade(t *testing.T, binary string) {
	t.Helper()
	s.binary = binary
	for i := range slices.Backward(s.replicas) {
		s.replicas[i].terminate(t)
		s.replicas[i] = s.launch(t, i)
	}
}

// edit replaces a part of the ConfigMap, which reaches every replica.
func (s *statefulSet) edit(t *testing.T, from, to string) {
	t.Helper()
	if strings.Count(s.configMap, from) != 1 {
		t.Fatalf("%q is not once in the ConfigMap:\n%s", from, s.configMap)
	}
	s.configMap = strings.Replace(s.configMap, from, to, 1)
	for _, r := range s.replicas {
		r.project(t, s.configMap)
	}
}

// waitApplied waits until the ConfigMap is in force in every replica.
func (s *statefulSet) waitApplied(t *testing.T) {
	t.Helper()
	for _, r := range s.replicas {
		r.WaitSynced(s.configMap)
	}
}

// waitStates waits until a consumer has a status in every replica.
func (s *statefulSet) waitStates(t *testing.T, consumer, status string) {
	t.Helper()
	for _, r := range s.replicas {
		r.WaitState(consumer, status)
	}
}

// A division says which partitions of a consumer each replica has, in which generation of
// the group.
type division map[string]share

type share struct {
	generation int32
	partitions string // such as " 0 3 7 "
}

// waitDivided waits until the replicas run and have all partitions of every consumer in one
// generation, as evenly as possible.
func (s *statefulSet) waitDivided(t *testing.T) division {
	t.Helper()
	var d division
	wait.For(t, wait.Timeout, fmt.Sprintf("%d replicas to share the partitions", len(s.replicas)), func() error {
		d = make(division)
		for _, e := range s.consumers {
			if err := s.divide(d, e.name); err != nil {
				return err
			}
		}
		return nil
	})
	return d
}

// divide adds the shares of one consumer to d.
func (s *statefulSet) divide(d division, consumer string) error {
	var all []int32
	var generations []int32
	for _, r := range s.replicas {
		c := r.Consumer(consumer)
		var ids []int32
		for _, p := range c.Partitions {
			ids = append(ids, p.Partition)
		}
		if least := s.partitions / len(s.replicas); c.Status != "RUNNING" || len(ids) < least || len(ids) > least+1 {
			return fmt.Errorf("%s of %s is %s with partitions %v: %s", consumer, r.name, c.Status, ids, c.Error())
		}
		slices.Sort(ids)
		all, generations = append(all, ids...), append(generations, c.Generation)
		d[consumer+" of "+r.name] = share{c.Generation, strings.Trim(fmt.Sprint(ids), "[]")}
	}
	if slices.Sort(all); len(all) != s.partitions || len(slices.Compact(all)) != s.partitions || slices.Min(generations) != slices.Max(generations) {
		return fmt.Errorf("the shares of %s are %v", consumer, d)
	}
	return nil
}

// wantSameDivision requires that no rebalance has happened since the replicas had this
// division.
func (s *statefulSet) wantSameDivision(t *testing.T, was division) {
	t.Helper()
	if is := s.waitDivided(t); !maps.Equal(is, was) {
		t.Fatalf("a rebalance has happened; the shares were\n%v\nand are\n%v", was, is)
	}
}

// wantWithin requires that no share of small has a partition that its replica does not have
// in large: what moved between the two, moved from or to the replicas that small lacks.
func wantWithin(t *testing.T, small, large division) {
	t.Helper()
	for name, s := range small {
		l, there := large[name]
		if !there {
			continue
		}
		for id := range strings.FieldsSeq(s.partitions) {
			if !slices.Contains(strings.Fields(l.partitions), id) {
				t.Errorf("%s has partition %s although it could stay: %q, %q", name, id, s.partitions, l.partitions)
			}
		}
	}
}

// waitReading waits until every replica has committed further records of its consumers.
func (s *statefulSet) waitReading(t *testing.T) {
	t.Helper()
	s.waitSomeReading(t, s.replicas, s.consumers)
}

// waitSomeReading is waitReading for some replicas and consumers.
func (s *statefulSet) waitSomeReading(t *testing.T, replicas []*replica, consumers []entry) {
	t.Helper()
	type reader struct {
		*replica
		consumer string
		was      int64
	}
	var readers []reader
	for _, r := range replicas {
		for _, e := range consumers {
			readers = append(readers, reader{r, e.name, r.WaitState(e.name, "RUNNING").Committed()})
		}
	}
	for _, r := range readers {
		r.WaitConsumer(r.consumer, "commit further records", func(c agenttest.Consumer) bool {
			return c.Status == "RUNNING" && c.Committed() > r.was
		})
	}
}

// fillDisk resizes a disk of mountDisk so that it has almost no space left, as if another
// program had taken the rest.
func fillDisk(t *testing.T, disk string) {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(disk, &fs); err != nil {
		t.Fatal(err)
	}
	used := (int64(fs.Blocks) - int64(fs.Bfree)) * fs.Bsize
	resizeDisk(t, disk, fmt.Sprint(used+64<<10))
}

// resizeDisk changes the size of a disk of mountDisk.
func resizeDisk(t *testing.T, disk, size string) {
	t.Helper()
	if err := unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT, "size="+size); err != nil {
		t.Fatal(err)
	}
}
