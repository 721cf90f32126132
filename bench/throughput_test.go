// Package bench measures the built kcagent on real Kafka, and compares it in one run with
// other programs or with another build of itself. Nothing in it runs without -bench, and
// no speed is asserted: the tables are for people.
//
//	go test -run '^$' -bench Throughput -benchtime 1x ./bench        throughput of one busy consumer, with other programs
//	go test -run '^$' -bench IdleConsumers -benchtime 1x ./bench     how cost grows with consumers, topics and partitions
//	go test -run '^$' -bench ActiveConsumers -benchtime 1x ./bench   what the flushes of many consumers cost
//	go test -run '^$' -bench FailingClusters -benchtime 1x ./bench   what clusters that fail cost the others
//	go test -run '^$' -bench Builds -benchtime 1x ./bench            two builds, in turns: throughput, memory, edits
//
// Settings are environment variables:
//
//	KCAGENT_BENCH_OUT        folder for the rows as CSV, from which docs/plots.py draws
//	KCAGENT_BENCH_ALL        1 measures every kind of record instead of one
//	KCAGENT_BENCH_MB         megabytes of each kind of record (200)
//	KCAGENT_BENCH_ROUNDS     how often each program is measured (3, or 5 for builds and failing clusters)
//	KCAGENT_BENCH_TOOLS      programs to measure; all if it is empty
//	KCAGENT_BENCH_CONSUMERS  consumers of ActiveConsumers and Builds (1000)
//	KCAGENT_BENCH_SECONDS    seconds for which ActiveConsumers measures (30)
//	KCAGENT_BENCH_DIR        folder for the files of ActiveConsumers, on a device that nothing else
//	                         uses, such as a loop device: the counters of the kernel are per device
//	KCAGENT_BENCH_OLD        binary of the build before a change; Builds is skipped without it
//	KCAGENT_BENCH_NEW        binary of the build after it; the current source code if it is empty
package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/e2e/kafkatest"
)

// A load is one kind of topic.
type load struct {
	size       int // bytes of a value
	codec      string
	partitions int32
}

func (l load) topic() string { return fmt.Sprintf("b%d-%s-%d", l.size, l.codec, l.partitions) }

func (l load) records() int { return number("KCAGENT_BENCH_MB", 200) * 1_000_000 / l.size }

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

// loads returns the kinds of topics to measure: the one that the aims are set for, or all
// of them.
func loads() []load {
	if os.Getenv("KCAGENT_BENCH_ALL") == "" {
		return []load{{200, "none", 4}}
	}
	var all []load
	for _, size := range []int{100, 200, 1000} {
		for _, codec := range []string{"none", "lz4", "zstd"} {
			for _, partitions := range []int32{1, 4, 32} {
				all = append(all, load{size, codec, partitions})
			}
		}
	}
	return all
}

// tools are the programs that are compared. Each gets a broker, a group, a topic and a
// file.
var tools = []string{"kcagent", "kcagent json", "kcagent loose", "plain", "franz-go", "kcat"}

// sinks are further keys of the file sink of kcagent. "kcagent loose" gives up the
// guarantees that the other programs do not have either.
var sinks = map[string]string{
	"kcagent": "", "kcagent json": ", format: json", "kcagent loose": ", delivery: at_least_once, durability: none",
}

// BenchmarkThroughput drains each load into one file, with the programs in turns, and
// prints a table of medians. kcagent runs with its defaults: exactly once, and with every
// flush on disk before its commit. The other programs do not sync.
func BenchmarkThroughput(b *testing.B) {
	kafkatest.Require(b)
	cluster := kafkatest.Start(b, kafkatest.Options{})
	dir := b.TempDir()
	goBuild(b, filepath.Join(dir, "kcagent"), "kcagent")
	goBuild(b, filepath.Join(dir, "plain"), "kcagent/bench/plain")
	goBuild(b, filepath.Join(dir, "franz-go"), "kcagent/bench/franz")
	rows := newRows(b, "file.csv", "bytes,codec,partitions,tool,mb_per_s,cpu_s_per_gb,rss_mib")
	fmt.Println("| record | codec | partitions | tool | MB/s | CPU-s/GB | peak RSS MiB |\n|---|---|---|---|---|---|---|")
	for _, l := range loads() {
		fill(b, cluster, l)
		results := map[string][]result{}
		for round := range number("KCAGENT_BENCH_ROUNDS", 3) {
			for _, i := range rand.Perm(len(tools)) {
				tool := tools[i]
				if only := os.Getenv("KCAGENT_BENCH_TOOLS"); only != "" && !strings.Contains(only, tool) {
					continue
				}
				cmd := command(b, dir, tool, cluster.Addrs()[0], fmt.Sprintf("%s-%d-%d", strings.ReplaceAll(tool, " ", "-"), round, b.N), l)
				if cmd == nil {
					continue
				}
				results[tool] = append(results[tool], drain(b, cmd, filepath.Join(dir, "out"), l))
			}
		}
		cluster.DeleteTopic(b, l.topic())
		for _, tool := range tools {
			if r := median(results[tool]); r.mbPerSecond > 0 {
				fmt.Printf("| %d B | %s | %d | %s | %.0f | %.2f | %.0f |\n", l.size, l.codec, l.partitions, tool, r.mbPerSecond, r.cpuPerGB, r.rss)
				rows.add("%d,%s,%d,%s,%.1f,%.3f,%.1f", l.size, l.codec, l.partitions, tool, r.mbPerSecond, r.cpuPerGB, r.rss)
			}
		}
		k, plain, franz := median(results["kcagent"]), median(results["plain"]), median(results["franz-go"])
		if l == (load{200, "none", 4}) {
			b.ReportMetric(k.mbPerSecond/plain.mbPerSecond, "x-plain")
			b.ReportMetric(k.mbPerSecond/franz.mbPerSecond, "x-franz")
			b.ReportMetric(k.cpuPerGB/plain.cpuPerGB, "cpu-of-plain")
			b.ReportMetric(k.mbPerSecond/median(results["kcagent loose"]).mbPerSecond, "of-loose")
			b.ReportMetric(median(results["kcagent json"]).mbPerSecond/plain.mbPerSecond, "json-x-plain")
		}
	}
}

// command returns the command of a program, or nil if it is not installed.
func command(b *testing.B, dir, tool, broker, group string, l load) *exec.Cmd {
	b.Helper()
	out := filepath.Join(dir, "out")
	switch tool {
	case "kcat":
		path, err := exec.LookPath("kcat")
		if err != nil {
			return nil
		}
		f, err := os.Create(out)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = f.Close() })
		cmd := exec.Command(path, "-C", "-q", "-b", broker, "-t", l.topic(), "-o", "beginning")
		cmd.Stdout = f
		return cmd
	case "kcagent", "kcagent json", "kcagent loose":
		conf := filepath.Join(dir, "consumers.yaml")
		text := fmt.Sprintf("consumers:\n- {name: bench, brokers: [%q], topics: [%s], group: %s, sink: {file: {path: %q%s}}}\n",
			broker, l.topic(), group, out, sinks[tool])
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		return exec.Command(filepath.Join(dir, "kcagent"), "run", "--config", conf, "--listen", "127.0.0.1:0", "--log-level", "warn")
	}
	return exec.Command(filepath.Join(dir, tool), broker, group, l.topic(), out)
}

// fill creates the topic and its records: lines as programs log them, which compress as
// such lines do.
func fill(b *testing.B, cluster *kafkatest.Cluster, l load) {
	b.Helper()
	cluster.CreateTopic(b, l.topic(), l.partitions)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.Addrs()...), kgo.DefaultProduceTopic(l.topic()),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerBatchCompression(codecs[l.codec]),
		kgo.MaxBufferedRecords(100_000))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	random := rand.New(rand.NewPCG(1, 2))
	values := make([][]byte, 5000)
	for i := range values {
		var v strings.Builder
		for v.Len() < l.size {
			fmt.Fprintf(&v, "level=%s user=%d path=/api/v%d/orders ", []string{"info", "warn", "error"}[random.IntN(3)], random.IntN(1e6), random.IntN(9))
		}
		values[i] = []byte(v.String()[:l.size])
	}
	for i := range l.records() {
		client.Produce(context.Background(), &kgo.Record{Value: values[i%len(values)]}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	if err := client.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
}
