package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// TestMemoryLimitFollowsTheCgroup runs the agent in a cgroup of its own, which requires
// root.
func TestMemoryLimitFollowsTheCgroup(t *testing.T) {
	t.Parallel()
	const limit = 256 << 20
	through, ok := inCgroup(t, limit)
	if !ok {
		t.Skip("cannot create a cgroup with a memory limit")
	}
	a := agenttest.Start(t, agenttest.Options{Config: "consumers: []\n", Through: through})
	if got := a.Status().Resources.MemoryLimitBytes; got < limit*8/10 || got >= limit {
		t.Errorf("memory_limit_bytes is %d in a cgroup of %d", got, limit)
	}
}

// inCgroup returns a command that runs the agent in a new cgroup, of version 2 or 1, with
// a memory limit. ok is false where the test may not create one.
func inCgroup(t *testing.T, limit int64) (through []string, ok bool) {
	t.Helper()
	for _, v := range []struct{ root, file string }{
		{"/sys/fs/cgroup", "memory.max"},
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
	} {
		dir, err := os.MkdirTemp(v.root, "kcagent-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(dir) }) // after the cleanup of the agent, which ends the process
		if f, err := os.OpenFile(filepath.Join(dir, v.file), os.O_WRONLY, 0); err == nil {
			_, err = fmt.Fprint(f, limit)
			_ = f.Close()
			if err == nil {
				return []string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(dir, "cgroup.procs")}, true
			}
		}
	}
	return nil, false
}

// TestManyConsumersShareFetchMemory: two hundred consumers of a topic with large records
// need the fetcher's memory and a write buffer each, and not 800 MiB, which each of them
// could fetch.
func TestManyConsumersShareFetchMemory(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	const consumers, partitions, records, size = 200, 4, 15, 200 << 10
	topic := s.newTopic(t, "large", partitions)
	value := func(topic string, partition int32, seq int) []byte {
		return append(make([]byte, size), kafkatest.Value(topic, partition, seq)...)
	}
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: partitions, Count: records, Value: value})
	var entries []entry
	for i := range consumers {
		entries = append(entries, s.entry(fmt.Sprint("c", i), topic).withState("paused"))
	}
	file := func() string {
		text := configText(map[string][]string{"main": s.Addrs()}, entries...)
		return strings.Replace(text, "{brokers:", "{fetch: {lanes: 2, max_bytes: 4MiB}, brokers:", 1)
	}
	a := agenttest.Start(t, agenttest.Options{Config: file(), Released: true})
	all := func(state string, records int64) func(agenttest.Status) bool {
		return func(st agenttest.Status) bool {
			for _, c := range st.Consumers {
				if c.Status != state || c.RecordsTotal != records {
					return false
				}
			}
			return len(st.Consumers) == consumers
		}
	}
	before := a.WaitStatus("all to be paused", all("PAUSED", 0)).Resources.RSSBytes
	for i := range entries {
		entries[i].state = "running"
	}
	a.Write(file())
	most := before
	a.WaitStatus("all to have read everything", func(st agenttest.Status) bool {
		most = max(most, st.Resources.RSSBytes)
		return all("RUNNING", partitions*records)(st)
	})
	const fetched, buffers = 2 * 4 << 20, consumers * (256<<10 + size)
	t.Logf("%d MiB before, %d MiB at most", before>>20, most>>20)
	if grown := most - before; grown > fetched+buffers+buffers/2 { // and garbage
		t.Errorf("memory grew by %d MiB, want %d MiB at most", grown>>20, (fetched+buffers)>>20)
	}
}
