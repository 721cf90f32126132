package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
	"kcagent/e2e/s3test"
)

// BenchmarkObjects drains one load into the file sink and into the objects sink, in turns and
// with the same formats, and then loads with one and with a thousand partitions, for the memory of
// both. The objects go to a real S3 server on this machine, which uses the same
// cores. A run ends when the agent has ended, and all records are synced or published. The CPU time is
// that of the agent alone.
func BenchmarkObjects(b *testing.B) {
	kafkatest.Require(b)
	cluster := kafkatest.Start(b, kafkatest.Options{})
	server := s3test.Start(b)
	agenttest.Binary(b) // do not measure the build
	rows := newRows(b, "objects.csv", "sink,format,partitions,round,mb_per_s,cpu_s_per_gb,peak_rss_mib")
	fmt.Println("| sink | format | partitions | round | MB/s | CPU-s/GB | peak RSS MiB |\n|---|---|---|---|---|---|---|")
	formats := []struct{ name, keys string }{
		{"raw", "format: raw, compression: none"}, {"json zstd", "format: json, compression: zstd"},
	}
	run := 0
	measure := func(kind string, format int, l load, round int) {
		run++
		dir := b.TempDir()
		defer os.RemoveAll(dir)
		f := formats[format]
		sink := fmt.Sprintf("file: {path: %q, %s}", filepath.Join(dir, "out"), f.keys)
		if kind == "objects" {
			sink = fmt.Sprintf("objects: {url: %q, endpoint: %q, path_style: true, spool: %q, credentials: {access_key_file: %q, secret_key_file: %q}, %s}",
				server.URL(fmt.Sprint("run", run)), server.Endpoint, dir, server.AccessKeyFile, server.SecretKeyFile, f.keys)
		}
		text := fmt.Sprintf("consumers:\n- {name: bench, brokers: [%q], topics: [%s], group: run-%d, sink: {%s}}\n",
			cluster.Addrs()[0], l.topic(), run, sink)
		speed, cpu, rss := drainSink(b, cluster.Addrs()[0], text, l)
		fmt.Printf("| %s | %s | %d | %d | %.0f | %.2f | %.0f |\n", kind, f.name, l.partitions, round+1, speed, cpu, rss)
		rows.add("%s,%s,%d,%d,%.1f,%.3f,%.1f", kind, f.name, l.partitions, round+1, speed, cpu, rss)
	}
	main := load{200, "none", 4, number("KCAGENT_BENCH_MB", 1000)}
	fill(b, cluster, main)
	for round := range number("KCAGENT_BENCH_ROUNDS", 3) {
		for _, i := range rand.Perm(2 * len(formats)) {
			measure([]string{"file", "objects"}[i%2], i/2, main, round)
		}
	}
	cluster.DeleteTopic(b, main.topic())
	for _, partitions := range []int32{1, 1000} {
		l := load{200, "none", partitions, main.mb}
		fill(b, cluster, l)
		measure("file", 1, l, 0)
		measure("objects", 1, l, 0)
		cluster.DeleteTopic(b, l.topic())
	}
	b.ReportMetric(0, "ns/op") // meaningless here
}

// drainSink runs an agent until it has all records, stops it, and returns the rate from the first fetch
// to its end, its CPU time, and its peak memory.
func drainSink(b *testing.B, broker, text string, l load) (mbPerSecond, cpuPerGB, rss float64) {
	b.Helper()
	before := receivedFrom(b, broker)
	a := agenttest.Start(b, agenttest.Options{Config: text, Args: []string{"--log-level", "warn"}})
	var began time.Time
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if began.IsZero() && receivedSince(b, broker, before) > fetched {
			began = time.Now()
		}
		_, body := a.Get("/status/bench?fields=records_total")
		if strings.Contains(string(body), fmt.Sprintf(`"records_total":%d`, l.records())) {
			break
		}
		if time.Now().After(deadline) {
			b.Fatalf("the agent has not read all records: %s", body)
		}
	}
	rss = memory(b, a.Pid(), "VmHWM")
	a.Signal(os.Interrupt)
	if code := a.WaitExit(40 * time.Second); code != 0 {
		b.Errorf("exit code %d", code)
	}
	took := time.Since(began)
	return l.gigabytes() * 1e3 / took.Seconds(), a.CPUTime().Seconds() / l.gigabytes(), rss
}
