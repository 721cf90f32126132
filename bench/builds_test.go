package bench

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// A build is a binary of kcagent with what was measured of it, one value per round.
type build struct {
	name, binary string
	throughput   []result // of the format raw
	json         []result
	start        []float64 // seconds until all idle consumers run
	rss          []float64 // MiB with idle consumers
	cores        []float64 // used by idle consumers
	edit         []float64 // milliseconds from the write of the file until the consumer has its state
	editCPU      []float64 // milliseconds of CPU per edit, with the requests that wait for it
}

// BenchmarkBuilds compares two builds of kcagent: the throughput of one busy consumer, in
// each format, the memory of a thousand idle ones, and the time of an edit that pauses or
// resumes one of these. Each round measures both, in random order, so that a change of the
// machine's speed affects both. It prints medians and the ratio of new to old. With the same
// binary as old and new, the ratios show the noise. CPU and memory hardly depend on other
// work of the machine; throughput and durations do.
func BenchmarkBuilds(b *testing.B) {
	kafkatest.Require(b)
	before := &build{name: "old", binary: os.Getenv("KCAGENT_BENCH_OLD")}
	if before.binary == "" {
		b.Skip("KCAGENT_BENCH_OLD does not name a binary")
	}
	dir := b.TempDir()
	after := &build{name: "new", binary: os.Getenv("KCAGENT_BENCH_NEW")}
	if after.binary == "" {
		after.binary = filepath.Join(dir, "kcagent")
		goBuild(b, after.binary, "kcagent")
	}
	cluster := kafkatest.Start(b, kafkatest.Options{Properties: map[string]string{
		"socket.listen.backlog.size": "10000", "offsets.topic.num.partitions": "4",
	}})
	cluster.CreateTopic(b, "idle", 1)
	l := load{200, "none", 4}
	fill(b, cluster, l)
	both := []*build{before, after}
	for round := range number("KCAGENT_BENCH_ROUNDS", 5) {
		for _, i := range rand.Perm(2) {
			x := both[i]
			x.throughput = append(x.throughput, x.drain(b, dir, cluster.Addrs()[0], fmt.Sprintf("busy-%s-%d-%d", x.name, b.N, round), "raw", l))
		}
		for _, i := range rand.Perm(2) {
			x := both[i]
			x.json = append(x.json, x.drain(b, dir, cluster.Addrs()[0], fmt.Sprintf("json-%s-%d-%d", x.name, b.N, round), "json", l))
		}
		for _, i := range rand.Perm(2) {
			both[i].idle(b, cluster.Addrs()[0], fmt.Sprintf("idle-%s-%d-%d", both[i].name, b.N, round))
		}
	}
	report(b, before, after)
}

// drain measures the throughput of one consumer that writes records in a format.
func (x *build) drain(b *testing.B, dir, broker, group, format string, l load) result {
	b.Helper()
	conf, out := filepath.Join(dir, "consumers.yaml"), filepath.Join(dir, "out")
	text := fmt.Sprintf("consumers:\n- {name: bench, brokers: [%q], topics: [%s], group: %s, sink: {file: {path: %q, format: %s}}}\n", broker, l.topic(), group, out, format)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(x.binary, "run", "--config", conf, "--listen", "127.0.0.1:0", "--log-level", "warn")
	return drain(b, cmd, out, l)
}

// idle measures idle consumers, and edits of one of them.
func (x *build) idle(b *testing.B, broker, group string) {
	b.Helper()
	n := number("KCAGENT_BENCH_CONSUMERS", 1000)
	dir := b.TempDir()
	file := func(first string) string {
		var text strings.Builder
		text.WriteString("limits: {max_consumers: 10000}\nconsumers:\n")
		for i := range n {
			state := "running"
			if i == 0 {
				state = first
			}
			fmt.Fprintf(&text, "- {name: c%d, state: %s, brokers: [%q], topics: [idle], group: %s-%d, sink: {file: {path: %q}}}\n",
				i, state, broker, group, i, filepath.Join(dir, fmt.Sprint(i, ".log")))
		}
		return text.String()
	}
	began := time.Now()
	a := agenttest.Start(b, agenttest.Options{Binary: x.binary, Config: file("running"), Args: []string{"--log-level", "warn"}})
	a.WaitStatus("all to run", func(s agenttest.Status) bool { return s.Summary["RUNNING"] == n })
	x.start = append(x.start, time.Since(began).Seconds())
	time.Sleep(10 * time.Second) // until garbage of the start is collected
	const idle = 10
	cpu := cpuSeconds(b, a.Pid())
	time.Sleep(idle * time.Second)
	x.cores = append(x.cores, (cpuSeconds(b, a.Pid())-cpu)/idle)
	x.rss = append(x.rss, memory(b, a.Pid(), "VmRSS"))
	var edits []float64
	cpu = cpuSeconds(b, a.Pid())
	for range 10 {
		for _, edit := range []struct{ state, status string }{{"paused", "PAUSED"}, {"running", "RUNNING"}} {
			began := time.Now()
			a.Write(file(edit.state))
			for a.Consumer("c0").Status != edit.status {
				if time.Since(began) > time.Minute {
					b.Fatalf("the consumer is not %s after a minute", edit.status)
				}
				time.Sleep(5 * time.Millisecond)
			}
			edits = append(edits, 1e3*time.Since(began).Seconds())
		}
	}
	x.edit = append(x.edit, middle(edits))
	x.editCPU = append(x.editCPU, 1e3*(cpuSeconds(b, a.Pid())-cpu)/float64(len(edits)))
	a.Signal(os.Interrupt)
	if code := a.WaitExit(40 * time.Second); code != 0 {
		b.Errorf("%s: exit code %d", x.name, code)
	}
}

// report prints the medians of two builds, the range of each and their ratio.
func report(b *testing.B, before, after *build) {
	b.Helper()
	rows := newRows(b, "builds.csv", "measure,old,new,ratio")
	fmt.Println("| measure | old | new | new/old |\n|---|---|---|---|")
	row := func(what, unit string, of func(*build) []float64) {
		was, is := of(before), of(after)
		ratio := middle(is) / middle(was)
		fmt.Printf("| %s | %.4g (%.4g to %.4g) | %.4g (%.4g to %.4g) | %.3f |\n", what,
			middle(was), slices.Min(was), slices.Max(was), middle(is), slices.Min(is), slices.Max(is), ratio)
		rows.add("%s,%.5g,%.5g,%.4f", what, middle(was), middle(is), ratio)
		b.ReportMetric(ratio, unit)
	}
	figures := func(of func(*build) []result, f func(result) float64) func(*build) []float64 {
		return func(x *build) []float64 {
			var values []float64
			for _, r := range of(x) {
				values = append(values, f(r))
			}
			return values
		}
	}
	n := cmp.Or(os.Getenv("KCAGENT_BENCH_CONSUMERS"), "1000")
	for _, format := range []struct {
		what, unit string
		of         func(*build) []result
	}{
		{"busy consumer", "", func(x *build) []result { return x.throughput }},
		{"busy consumer, JSON", "-json", func(x *build) []result { return x.json }},
	} {
		row(format.what+": MB/s", "x-throughput"+format.unit, figures(format.of, func(r result) float64 { return r.mbPerSecond }))
		row(format.what+": CPU-s/GB", "x-cpu"+format.unit, figures(format.of, func(r result) float64 { return r.cpuPerGB }))
		row(format.what+": peak RSS MiB", "x-busy-rss"+format.unit, figures(format.of, func(r result) float64 { return r.rss }))
	}
	row(n+" idle consumers: RSS MiB", "x-idle-rss", func(x *build) []float64 { return x.rss })
	row(n+" idle consumers: cores", "x-idle-cores", func(x *build) []float64 { return x.cores })
	row(n+" consumers: start s", "x-start", func(x *build) []float64 { return x.start })
	row(n+" consumers: edit ms", "x-edit", func(x *build) []float64 { return x.edit })
	row(n+" consumers: edit CPU-ms", "x-edit-cpu", func(x *build) []float64 { return x.editCPU })
	b.ReportMetric(0, "ns/op") // meaningless here
}
