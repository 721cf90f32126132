// Package bench compares, on real Kafka and in one run, what kcagent does with
// what others do. Nothing in it runs without -bench: speed is measured, never
// asserted.
package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/e2e/kafkatest"
	"kcagent/e2e/process"
)

const (
	recordBytes = 200
	partitions  = 4
	topic       = "bench"
)

// BenchmarkFile drains one topic into one file, kcagent (with its defaults, so
// with fdatasync before each commit) and the plain sarama loop in turns, and
// reports the ratio of the medians. KCAGENT_BENCH_RECORDS sets how many
// records; 3,000,000 if it is not set.
func BenchmarkFile(b *testing.B) {
	kafkatest.Require(b)
	cluster := kafkatest.Start(b, kafkatest.Options{})
	records := 3_000_000
	if s := os.Getenv("KCAGENT_BENCH_RECORDS"); s != "" {
		var err error
		if records, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	fill(b, cluster.Addrs()[0], records)
	dir := b.TempDir()
	kcagent, plain := filepath.Join(dir, "kcagent"), filepath.Join(dir, "plain")
	build(b, kcagent, "kcagent")
	build(b, plain, "kcagent/bench/plain")

	want := int64(records) * (recordBytes + 1)
	results := map[string][]result{}
	for b.Loop() {
		for round := range 5 {
			for _, name := range shuffled("kcagent", "plain") {
				group, out := fmt.Sprintf("%s-%d-%d", name, b.N, round), filepath.Join(dir, name+".out")
				var cmd *exec.Cmd
				if name == "plain" {
					cmd = exec.Command(plain, cluster.Addrs()[0], group, topic, out)
				} else {
					conf := filepath.Join(dir, "consumers.yaml")
					write(b, conf, fmt.Sprintf("consumers:\n- {name: bench, brokers: [%q], topics: [%s], group: %s, sink: {file: {path: %q}}}\n",
						cluster.Addrs()[0], topic, group, out))
					cmd = exec.Command(kcagent, "run", "--config", conf, "--listen", "127.0.0.1:0", "--log-level", "warn")
				}
				results[name] = append(results[name], measure(b, cmd, out, want))
			}
		}
	}
	k, p := median(results["kcagent"]), median(results["plain"])
	fmt.Printf("%-8s %8s %12s\n", "", "MB/s", "CPU-s/GB")
	for name, r := range map[string]result{"kcagent": k, "plain": p} {
		fmt.Printf("%-8s %8.0f %12.2f\n", name, r.mbPerSecond, r.cpuPerGB)
	}
	b.ReportMetric(k.mbPerSecond/p.mbPerSecond, "throughput-ratio")
	b.ReportMetric(k.cpuPerGB/p.cpuPerGB, "cpu-ratio")
}

type result struct{ mbPerSecond, cpuPerGB float64 }

// measure runs cmd until its file has want bytes. The time runs from the first
// byte, so that joining the group does not count.
func measure(b *testing.B, cmd *exec.Cmd, out string, want int64) result {
	b.Helper()
	_ = os.Remove(out)
	cmd.Stderr = os.Stderr
	p, err := process.Start(cmd)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Stop(10 * time.Second)
	var began time.Time
	var first int64
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Minute); ; <-tick.C {
		var size int64
		if info, err := os.Stat(out); err == nil {
			size = info.Size()
		}
		switch {
		case size > 0 && began.IsZero():
			began, first = time.Now(), size
		case size >= want:
			took := time.Since(began).Seconds()
			return result{float64(size-first) / 1e6 / took, cpuSeconds(b, p.Pid()) / (float64(size) / 1e9)}
		case time.Now().After(deadline):
			b.Fatalf("%s wrote %d of %d bytes", cmd.Path, size, want)
		}
	}
}

// cpuSeconds reads what a process has used so far.
func cpuSeconds(b *testing.B, pid int) float64 {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100 // clock ticks: 100 a second on every Linux
}

func median(rs []result) result {
	sort.Slice(rs, func(i, j int) bool { return rs[i].mbPerSecond < rs[j].mbPerSecond })
	speed := rs[len(rs)/2].mbPerSecond
	sort.Slice(rs, func(i, j int) bool { return rs[i].cpuPerGB < rs[j].cpuPerGB })
	return result{speed, rs[len(rs)/2].cpuPerGB}
}

// shuffled draws the order of a round, so that neither always runs on the
// warmer machine.
func shuffled(names ...string) []string {
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}

func build(b *testing.B, out, pkg string) {
	b.Helper()
	if text, err := exec.Command("go", "build", "-o", out, pkg).CombinedOutput(); err != nil {
		b.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
}

func write(b *testing.B, path, text string) {
	b.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

// fill makes the topic and its records.
func fill(b *testing.B, broker string, records int) {
	b.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(100_000))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	req := kmsg.NewPtrCreateTopicsRequest()
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, partitions, 1
	req.Topics = append(req.Topics, t)
	if _, err := req.RequestWith(ctx, client); err != nil {
		b.Fatal(err)
	}
	value := []byte(strings.Repeat("0123456789", recordBytes/10))
	for range records {
		client.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		b.Fatal(err)
	}
}
