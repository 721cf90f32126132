package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/process"
)

// BenchmarkIdleConsumers measures what idle consumers cost, and how that grows with their
// number, their topics and their partitions: the time until all run, and then memory, CPU,
// sockets and goroutines, and what an edit costs that pauses or resumes one of them.
func BenchmarkIdleConsumers(b *testing.B) {
	kafkatest.Require(b)
	cluster := kafkatest.Start(b, kafkatest.Options{Properties: map[string]string{
		"socket.listen.backlog.size": "10000", "offsets.topic.num.partitions": "4",
	}})
	agenttest.Binary(b) // do not measure the build
	rows := newRows(b, "idle.csv", "kind,n,start_s,rss_mib,cores,sockets,goroutines,edit_ms,edit_cpu_ms")
	fmt.Println("| idle | all run after | RSS MiB | cores | sockets | goroutines | edit ms | edit CPU-ms |\n|---|---|---|---|---|---|---|---|")
	for i := range 1000 {
		cluster.CreateTopic(b, fmt.Sprint("t", i), 1)
	}
	cluster.CreateTopic(b, "wide", 256)
	cluster.CreateTopic(b, "one", 1)
	for _, c := range []crowd{
		{"consumers", 1, 1, "one"},
		{"consumers", 100, 1, "one"},
		{"consumers", 1000, 1, "one"},
		{"consumers", 5000, 1, "one"},
		{"consumers on topics of their own", 1000, 1, "t%d"},
		{"topics", 1, 1000, "t%d"},
		{"partitions", 1, 256, "wide"},
	} {
		if c.consumers <= number("KCAGENT_BENCH_CONSUMERS", 5000) {
			c.measure(b, cluster, rows)
		}
	}
}

// A crowd describes idle consumers.
type crowd struct {
	kind      string
	consumers int
	each      int // topics or partitions of each consumer
	topic     string
}

func (c crowd) measure(b *testing.B, cluster *kafkatest.Cluster, rows rows) {
	b.Helper()
	began := time.Now()
	text := c.file(b.TempDir(), cluster.Addrs()[0])
	a := agenttest.Start(b, agenttest.Options{Config: text, Args: []string{"--log-level", "warn"}})
	a.WaitStatus("all to run", func(s agenttest.Status) bool { return s.Summary["RUNNING"] == c.consumers })
	took := time.Since(began)
	<-time.After(10 * time.Second) // until garbage of the start is collected
	const idle = 10
	before := cpuSeconds(b, a.Pid())
	<-time.After(idle * time.Second)
	cores := (cpuSeconds(b, a.Pid()) - before) / idle
	s := a.Status()
	rss, n := memory(b, a.Pid(), "VmRSS"), max(c.consumers, c.each)
	open := sockets(a.Pid())
	ms, cpuMS := measureEdits(b, a, text, 10)
	fmt.Printf("| %d %s | %.1f s | %.0f | %.3f | %d | %d | %.0f | %.1f |\n", n, c.kind, took.Seconds(), rss, cores, open, s.Resources.Goroutines, ms, cpuMS)
	rows.add("%s,%d,%.2f,%.1f,%.4f,%d,%d,%.1f,%.2f", c.kind, n, took.Seconds(), rss, cores, open, s.Resources.Goroutines, ms, cpuMS)
	a.Signal(os.Interrupt)
	if code := a.WaitExit(40 * time.Second); code != 0 {
		b.Errorf("%d %s: exit code %d", n, c.kind, code)
	}
}

func (c crowd) file(dir, broker string) string {
	var text strings.Builder
	text.WriteString("limits: {max_consumers: 10000}\nconsumers:\n")
	for i := range c.consumers {
		topics := c.topic
		switch {
		case c.each > 1 && strings.Contains(c.topic, "%"):
			names := make([]string, c.each)
			for k := range names {
				names[k] = fmt.Sprintf(c.topic, k)
			}
			topics = strings.Join(names, ", ")
		case strings.Contains(c.topic, "%"):
			topics = fmt.Sprintf(c.topic, i)
		}
		fmt.Fprintf(&text, "- {name: c%d, brokers: [%q], topics: [%s], group: %s-%d-%d, sink: {file: {path: %q}}}\n",
			i, broker, topics, strings.ReplaceAll(c.kind, " ", "-"), c.consumers, i, filepath.Join(dir, fmt.Sprint(i, ".log")))
	}
	return text.String()
}

// sockets returns the number of open sockets of a process.
func sockets(pid int) int {
	n := 0
	for _, file := range process.OpenFiles(pid) {
		if strings.HasPrefix(file, "socket:") {
			n++
		}
	}
	return n
}
