package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"kcagent/e2e/agenttest"
)

// TestMemoryLimitOfTheCgroup runs the agent in a cgroup of its own, which takes
// the rights of root.
func TestMemoryLimitOfTheCgroup(t *testing.T) {
	t.Parallel()
	const limit = 256 << 20
	group := newCgroup(t, "268435456")
	a := agenttest.Start(t, agenttest.Options{
		Config:  "consumers: []\n",
		Through: []string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(group, "cgroup.procs")},
	})
	if got := a.Status().Resources.MemoryLimitBytes; got < limit*8/10 || got >= limit {
		t.Errorf("memory_limit_bytes is %d in a cgroup of %d", got, limit)
	}
}

// newCgroup makes a cgroup with a memory limit, of version 2 or 1.
func newCgroup(t *testing.T, limit string) string {
	t.Helper()
	for _, v := range []struct{ root, file string }{
		{"/sys/fs/cgroup", "memory.max"},
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
	} {
		dir := filepath.Join(v.root, "kcagent-test")
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(dir) }) // after the agent's own, which ends it
		if f, err := os.OpenFile(filepath.Join(dir, v.file), os.O_WRONLY, 0); err == nil {
			_, err = f.WriteString(limit)
			_ = f.Close()
			if err == nil {
				return dir
			}
		}
	}
	t.Skip("cannot make a cgroup with a memory limit")
	return ""
}
