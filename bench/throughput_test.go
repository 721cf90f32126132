// Package bench measures the built kcagent on real Kafka, and compares it in one run with
// other programs or with another build of itself. Nothing in it runs without -bench, and
// no speed is asserted: the tables are for people. make bench and make bench-compare run
// it; a part is measured with
//
//	go test -run '^$' -bench Throughput -benchtime 1x ./bench        throughput of one busy consumer, with other programs
//	go test -run '^$' -bench Profile -benchtime 1x ./bench           what its CPU time is spent on
//	go test -run '^$' -bench IdleConsumers -benchtime 1x ./bench     how cost grows with consumers, topics and partitions
//	go test -run '^$' -bench ActiveConsumers -benchtime 1x ./bench   what the flushes of many consumers cost
//	go test -run '^$' -bench FailingClusters -benchtime 1x ./bench   what clusters that fail cost the others
//	go test -run '^$' -bench Objects -benchtime 1x ./bench           the objects sink beside the file sink
//	go test -run '^$' -bench Sizing -benchtime 1x ./bench            memory and descriptors, for docs/sizing.md
//
// Throughput is measured from the first fetch on. The first byte in the file would be too
// late: a program that fetches far ahead before it writes would look faster. To find the
// first fetch, [received] asks the kernel every 2 ms how many bytes the program's
// connections to the broker have received. That is the same for all programs, and slows
// down neither them nor the broker. The broker's request log was the alternative: it has
// the time of each fetch, but writes kilobytes for each of them, on the thread that sends
// the responses, so that programs with many small fetches would be slower. The start is
// late by the time from the first request to its first bytes, some milliseconds, and early
// by at most 2 ms.
//
// The end is when the file has all records. kcagent has then synced all records up to its
// last flush. At most one second or 64 MiB of records follow that flush. The other
// programs do not sync: the kernel has their records in memory.
//
// Settings are environment variables:
//
//	KCAGENT_BENCH_OUT        folder for the figures as CSV; docs/performance with make bench
//	KCAGENT_BENCH_ALL        1 measures every kind of record instead of one
//	KCAGENT_BENCH_MB         megabytes of each kind of record (1000, or 600 for builds)
//	KCAGENT_BENCH_ROUNDS     how often each program is measured (3; 5 for failing clusters, 6 for builds)
//	KCAGENT_BENCH_TOOLS      programs to measure; all if it is empty
//	KCAGENT_BENCH_CONSUMERS  consumers of ActiveConsumers and Builds (1000), and at most of IdleConsumers (5000)
//	KCAGENT_BENCH_SECONDS    seconds for which flushes are measured (20, or 8 for builds)
//	KCAGENT_BENCH_DIR        folder for the files of ActiveConsumers, Builds and Sizing, on a device that
//	                         nothing else uses: the counters of the kernel are per device. If it is empty,
//	                         root gets a new file system on a loop device, except for Sizing
//	KCAGENT_BENCH_NOTE       what readers of the figures should know about this run
//	KCAGENT_BENCH_OLD        binary of the build before a change, for Builds
//	KCAGENT_BENCH_NEW        binary of the build after it
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
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/e2e/kafkatest"
)

// A load is one kind of topic.
type load struct {
	size       int // bytes of a value
	codec      string
	partitions int32
	mb         int // megabytes of values
}

func (l load) topic() string {
	return fmt.Sprintf("b%d-%s-%d-%d", l.size, l.codec, l.partitions, l.mb)
}

func (l load) records() int { return l.mb * 1_000_000 / l.size }

func (l load) gigabytes() float64 { return float64(l.records()) * float64(l.size) / 1e9 }

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

// A stage drains one load by some programs, several times in turns.
type stage struct {
	load
	rounds int
	tools  []string
}

// stages returns what to measure: the load that the aims are set for, or all of them.
func stages() []stage {
	mb, rounds := number("KCAGENT_BENCH_MB", 1000), number("KCAGENT_BENCH_ROUNDS", 3)
	main := stage{load{200, "none", 4, mb}, rounds, []string{"kcagent", "kcagent json", "kcagent loose", "plain", "franz-go", "kcat", "floor"}}
	if os.Getenv("KCAGENT_BENCH_ALL") == "" {
		return []stage{main}
	}
	// The kernel has to write most of what it got before the end only if there is more of it.
	all := []stage{main, {load{200, "none", 4, 4 * mb}, rounds, []string{"kcagent", "kcagent loose", "floor"}}}
	for _, l := range []load{
		{200, "none", 1, mb},
		{200, "none", 32, mb},
		{200, "zstd", 1, mb},
		{200, "zstd", 4, mb},
		{200, "zstd", 32, mb},
		{200, "lz4", 4, mb},
		{100, "none", 4, mb},
		{100, "lz4", 4, mb},
		{100, "zstd", 4, mb},
		{1000, "none", 4, mb},
		{1000, "lz4", 4, mb},
		{1000, "zstd", 4, mb},
	} {
		tools := []string{"kcagent", "kcagent json", "plain", "franz-go", "kcat"}
		if l.codec == "none" {
			tools = append(tools, "floor")
		}
		all = append(all, stage{l, 1, tools})
	}
	return all
}

// sinks are further keys of the file sink of kcagent. "kcagent loose" gives up the
// guarantees that the other programs do not have either.
var sinks = map[string]string{
	"kcagent": "", "kcagent json": ", format: json", "kcagent loose": ", delivery: at_least_once, durability: none",
}

// BenchmarkThroughput drains each load into one file, with the programs in turns, and
// prints a line for each run. kcagent runs with its defaults: exactly once, and with every
// flush on disk before its commit. The other programs do not sync. "floor" only moves the
// bytes of the topic's log, see bench/floor, and "floor synced" is the same run until its
// only sync, at the end, is complete.
func BenchmarkThroughput(b *testing.B) {
	kafkatest.Require(b)
	dir := b.TempDir()
	logs := filepath.Join(dir, "kafka")
	cluster := kafkatest.Start(b, kafkatest.Options{Properties: map[string]string{
		"log.dirs": logs, "log.segment.delete.delay.ms": "1000", // free the disk before the next topic
	}})
	goBuild(b, filepath.Join(dir, "kcagent"), "kcagent")
	goBuild(b, filepath.Join(dir, "plain"), "kcagent/bench/plain")
	goBuild(b, filepath.Join(dir, "franz-go"), "kcagent/bench/franz")
	goBuild(b, filepath.Join(dir, "floor"), "kcagent/bench/floor")
	rows := newRows(b, "throughput.csv", "bytes,codec,partitions,mb,tool,round,mb_per_s,user_s_per_gb,system_s_per_gb,peak_rss_mib,fetch_s,file_s")
	fmt.Println("| after | record | codec | partitions | MB | tool | round | MB/s | user CPU-s/GB | system CPU-s/GB | peak RSS MiB |\n|---|---|---|---|---|---|---|---|---|---|---|")
	began := time.Now()
	for _, s := range stages() {
		fill(b, cluster, s.load)
		for round := range s.rounds {
			for _, i := range rand.Perm(len(s.tools)) {
				tool := s.tools[i]
				if only := os.Getenv("KCAGENT_BENCH_TOOLS"); only != "" && !strings.Contains(only, tool) {
					continue
				}
				var r result
				if tool == "floor" {
					r = drainFloor(b, dir, logs, s.load)
				} else {
					p, installed := newProgram(b, dir, tool, cluster.Addrs()[0], fmt.Sprintf("%s-%d-%d", strings.ReplaceAll(tool, " ", "-"), round, b.N), s.load)
					if !installed {
						continue
					}
					r = drain(b, p, s.load)
				}
				add := func(tool string, speed float64) {
					fmt.Printf("| %v | %d B | %s | %d | %d | %s | %d | %.0f | %.2f | %.2f | %.0f |\n", time.Since(began).Round(time.Second),
						s.size, s.codec, s.partitions, s.mb, tool, round+1, speed, r.user, r.system, r.rss)
					rows.add("%d,%s,%d,%d,%s,%d,%.1f,%.3f,%.3f,%.1f,%.3f,%.3f", s.size, s.codec, s.partitions, s.mb, tool, round+1, speed, r.user, r.system, r.rss, r.fetch, r.file)
				}
				add(tool, r.mbPerSecond)
				if tool == "floor" {
					add("floor synced", r.syncedPerSecond)
				}
			}
		}
		cluster.DeleteTopic(b, s.topic())
	}
	b.ReportMetric(0, "ns/op") // meaningless here
}

// newProgram returns a program that drains a load, unless it is not installed.
func newProgram(b *testing.B, dir, tool, broker, group string, l load) (_ program, installed bool) {
	b.Helper()
	p := program{broker: broker, out: filepath.Join(dir, "out"), want: int64(l.records()) * int64(l.size+1)}
	switch tool {
	case "kcat":
		path, err := exec.LookPath("kcat")
		if err != nil {
			return p, false
		}
		f, err := os.Create(p.out)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = f.Close() })
		p.cmd = exec.Command(path, "-C", "-q", "-b", broker, "-t", l.topic(), "-o", "beginning")
		p.cmd.Stdout = f
		p.want -= 64 << 10 // kcat keeps the rest in the buffer of its standard output
	case "kcagent", "kcagent json", "kcagent loose":
		p = agent(b, filepath.Join(dir, "kcagent"), dir, broker, group, sinks[tool], l)
	default:
		p.cmd = exec.Command(filepath.Join(dir, tool), broker, group, l.topic(), p.out)
	}
	return p, true
}

// agent returns a build of kcagent that drains a load with one consumer. sink holds further
// keys of its file sink.
func agent(b *testing.B, binary, dir, broker, group, sink string, l load) program {
	b.Helper()
	p := program{broker: broker, out: filepath.Join(dir, "out"), want: int64(l.records()) * int64(l.size+1)}
	p.open = strings.Contains(sink, "format: json") // the length of its envelopes is unknown in advance
	// Beside the output, each write would wake the watch of the configuration.
	p.config = filepath.Join(dir, "etc", "consumers.yaml")
	if err := os.MkdirAll(filepath.Dir(p.config), 0o700); err != nil {
		b.Fatal(err)
	}
	text := fmt.Sprintf("consumers:\n- {name: bench, brokers: [%q], topics: [%s], group: %s, sink: {file: {path: %q%s}}}\n",
		broker, l.topic(), group, p.out, sink)
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	p.cmd = exec.Command(binary, "run", "--config", p.config, "--listen", "127.0.0.1:0", "--log-level", "warn")
	return p
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
