package kafkatest

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"kcagent/e2e/process"
	"kcagent/e2e/wait"
)

//go:embed GroupMember.java
var groupMember []byte

// JavaMember starts a Java consumer that joins a group, consumes a topic and commits what
// it consumed, and returns when the consumer is a member. stop makes it leave the group.
// JavaMember skips the test, as [Require] does, where Java cannot compile.
func (c *Cluster) JavaMember(t testing.TB, group, topic string) (stop func()) {
	t.Helper()
	requireCompiler(t)
	b := c.Brokers[0]
	dir := t.TempDir()
	source := filepath.Join(dir, "GroupMember.java")
	if err := os.WriteFile(source, groupMember, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // the process has its own descriptor
	before := c.Group(t, group).Members
	cmd := b.java(source, b.Addr(), group, topic)
	cmd.Stdout, cmd.Stderr = log, log
	proc, err := process.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proc.Kill)
	wait.For(t, wait.Timeout, "the Java member", func() error {
		g := c.Group(t, group)
		for _, id := range g.Members {
			if g.State == "Stable" && !slices.Contains(before, id) && len(g.Members) > len(before) {
				return nil
			}
		}
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("the group is %s with %v; its log:\n%s", g.State, g.Members, text)
	})
	return func() {
		t.Helper()
		proc.Stop(stopGrace)
	}
}
