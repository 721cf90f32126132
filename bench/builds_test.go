package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// A build is a binary of kcagent, and a file with what was measured of it, in the format
// of Go's benchmarks.
type build struct {
	name, binary string
	rows         rows
}

// BenchmarkBuilds compares two builds of kcagent: the throughput of one busy consumer, in
// each format; the memory of many idle ones, and the time of an edit that pauses or resumes
// one of these; the writes of the disk for each flush when all of them flush once a second.
// Each round measures both, in random order, so that a change of the machine's speed
// affects both. The results are old.txt and new.txt for benchstat, with a sample for each
// round. CPU, memory, goroutines and writes hardly depend on other work of the machine;
// throughput and durations do.
func BenchmarkBuilds(b *testing.B) {
	kafkatest.Require(b)
	both := []*build{{name: "old", binary: os.Getenv("KCAGENT_BENCH_OLD")}, {name: "new", binary: os.Getenv("KCAGENT_BENCH_NEW")}}
	for _, x := range both {
		if x.binary == "" {
			b.Skipf("KCAGENT_BENCH_%s does not name a binary; use make bench-compare", strings.ToUpper(x.name))
		}
		x.rows = newSamples(b, x.name+".txt")
	}
	dir, disk := b.TempDir(), ownDisk(b)
	cluster := kafkatest.Start(b, kafkatest.Options{Properties: map[string]string{
		"socket.listen.backlog.size": "10000", "offsets.topic.num.partitions": "4",
	}})
	cluster.CreateTopic(b, "shared", 1)
	l := load{200, "none", 4, number("KCAGENT_BENCH_MB", 600)}
	fill(b, cluster, l)
	rounds, began := number("KCAGENT_BENCH_ROUNDS", 6), time.Now()
	for round := range rounds {
		for _, format := range []string{"raw", "json"} {
			for _, i := range rand.Perm(2) {
				x := both[i]
				p := agent(b, x.binary, dir, cluster.Addrs()[0], fmt.Sprintf("%s-%s-%d-%d", format, x.name, b.N, round), ", format: "+format, l)
				r := drain(b, p, l)
				x.sample("Drain/format="+format, "%.1f MB/s %.3f CPU-s/GB %.1f peak-RSS-MiB", r.mbPerSecond, r.cpu(), r.rss)
			}
		}
		for _, i := range rand.Perm(2) {
			both[i].many(b, cluster.Addrs()[0], disk)
		}
		fmt.Printf("round %d of %d is complete after %v\n", round+1, rounds, time.Since(began).Round(time.Second))
	}
	b.ReportMetric(0, "ns/op") // meaningless here
}

// newSamples returns a file for benchstat.
func newSamples(b *testing.B, name string) rows {
	b.Helper()
	r := newRows(b, name, "pkg: kcagent/bench")
	if r.path == "" {
		b.Skip("KCAGENT_BENCH_OUT does not name a folder")
	}
	return r
}

// sample adds a line with one value of each unit.
func (x *build) sample(benchmark, format string, values ...any) {
	x.rows.add("Benchmark%s 1 "+format, append([]any{benchmark}, values...)...)
}

// many measures consumers while they are idle, edits of one of them, and their flushes
// while records arrive.
func (x *build) many(b *testing.B, broker string, disk *device) {
	b.Helper()
	a := active{consumers: number("KCAGENT_BENCH_CONSUMERS", 1000), delivery: "exactly_once"}
	dir := folder(b, disk)
	text := a.file(dir, broker)
	began := time.Now()
	agent := agenttest.Start(b, agenttest.Options{Binary: x.binary, Config: text, Args: []string{"--log-level", "warn"}})
	agent.WaitStatus("all to run", func(s agenttest.Status) bool { return s.Summary["RUNNING"] == a.consumers })
	start := time.Since(began).Seconds()
	const settle, idle = 7, 5
	<-time.After(settle * time.Second) // until garbage of the start is collected
	cpu := cpuSeconds(b, agent.Pid())
	<-time.After(idle * time.Second)
	cores := (cpuSeconds(b, agent.Pid()) - cpu) / idle
	x.sample(fmt.Sprintf("Idle/consumers=%d", a.consumers), "%.2f start-s %.1f RSS-MiB %d goroutines %.4f cores",
		start, memory(b, agent.Pid(), "VmRSS"), agent.Status().Resources.Goroutines, cores)

	ms, cpuMS := measureEdits(b, agent, text, 20)
	x.sample(fmt.Sprintf("Edit/consumers=%d", a.consumers), "%.1f ms/edit %.2f CPU-ms/edit", ms, cpuMS)

	stop := a.produce(b, broker)
	<-time.After(4 * time.Second) // until files and buffers exist and flushes are regular
	f := watchFlushes(b, agent, disk, number("KCAGENT_BENCH_SECONDS", 8))
	stop()
	line := fmt.Sprintf("%.2f ms/flush %.4f CPU-ms/flush %.2f syscalls/flush %.2f KiB/flush", f.ms, 1e3*f.cores/f.perSecond, f.writeCalls, f.ownKiB)
	if disk != nil {
		line += fmt.Sprintf(" %.3f writes/flush", f.writes)
	}
	x.sample(fmt.Sprintf("Flush/consumers=%d", a.consumers), "%s", line)
	agent.Signal(os.Interrupt)
	if code := agent.WaitExit(40 * time.Second); code != 0 {
		b.Errorf("%s: exit code %d", x.name, code)
	}
	_ = os.RemoveAll(dir) // free the disk for the next
}

// measureEdits pauses and resumes the first of many consumers. It returns the median of the
// milliseconds from the write of the file until the consumer has its state, and the mean of
// the milliseconds of CPU, which include the requests that wait for it.
func measureEdits(b *testing.B, agent *agenttest.Agent, text string, edits int) (ms, cpuMS float64) {
	b.Helper()
	var took []float64
	cpu := cpuSeconds(b, agent.Pid())
	for i := range edits {
		began := time.Now()
		state, status := "running", "RUNNING"
		if i%2 == 0 {
			state, status = "paused", "PAUSED"
		}
		agent.Write(strings.Replace(text, "name: c0,", "name: c0, state: "+state+",", 1))
		for agent.Consumer("c0").Status != status {
			if time.Since(began) > time.Minute {
				b.Fatalf("the consumer is not %s after a minute", status)
			}
			time.Sleep(5 * time.Millisecond)
		}
		took = append(took, 1e3*time.Since(began).Seconds())
	}
	return middle(took), 1e3 * (cpuSeconds(b, agent.Pid()) - cpu) / float64(edits)
}
