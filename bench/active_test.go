package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

const (
	activeInterval = time.Second            // the consumers' flush.interval
	activeRecord   = 200                    // bytes of a value
	oneTopicPause  = 100 * time.Millisecond // between the records of the shared topic
	ownTopicPause  = 500 * time.Millisecond // between the records of each of many topics
)

// BenchmarkActiveConsumers measures what a flush costs when a thousand consumers flush once
// a second, each to a file of its own: writes that the disk completes, the mean duration of
// a flush, and CPU.
//
// Consumers of one topic receive each record at the same moment, so their flushes come in
// bursts, which is the worst case. The records of consumers with topics of their own arrive
// at different times, and so do their flushes.
//
// The kernel counts the writes of the whole device, so Kafka keeps its data in memory
// ("log.dirs" on a tmpfs). The remaining writes of others are measured twice: the writes of
// the device while the agent runs and no record arrives, and the bytes that other processes
// write during the measurement. Neither is subtracted; repeat a run in which they are not
// small.
//
// The device counts a flush of its cache as a write, even one without data.
func BenchmarkActiveConsumers(b *testing.B) {
	kafkatest.Require(b)
	data := memoryFolder(b)
	cluster := kafkatest.Start(b, kafkatest.Options{Properties: map[string]string{
		"log.dirs":                   data,
		"socket.listen.backlog.size": "10000",
	}})
	agenttest.Binary(b) // do not write the build to the disk later
	n := number("KCAGENT_BENCH_CONSUMERS", 1000)
	cluster.CreateTopic(b, "shared", 1)
	for i := range n {
		cluster.CreateTopic(b, fmt.Sprint("own", i), 1)
	}
	rows := newRows(b, "active.csv", "topics,delivery,consumers,flushes_per_s,writes_per_flush,device_flushes_per_flush,"+
		"kib_per_flush,flush_ms,cores,rss_mib,threads,idle_writes_per_s,other_mib")
	fmt.Println("| active | delivery | flushes/s | writes a flush | device flushes a flush | KiB a flush | mean flush ms | cores |" +
		" RSS MiB | OS threads | idle writes/s | others wrote MiB |\n|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, topics := range []string{"one topic", "own topics"} {
		for _, delivery := range []string{"exactly_once", "at_least_once"} {
			a := active{consumers: n, own: topics == "own topics", delivery: delivery}
			b.Run(strings.ReplaceAll(topics, " ", "_")+"/"+delivery, func(b *testing.B) {
				for range b.N {
					a.measure(b, cluster, rows)
				}
			})
		}
	}
}

// An active describes consumers that always have something to flush.
type active struct {
	consumers int
	own       bool // whether each has a topic of its own
	delivery  string
}

func (a active) kind() string {
	if a.own {
		return fmt.Sprint(a.consumers, " on topics of their own")
	}
	return fmt.Sprint(a.consumers, " on one topic")
}

func (a active) measure(b *testing.B, cluster *kafkatest.Cluster, rows rows) {
	b.Helper()
	dir := dataFolder(b)
	disk := findDevice(b, dir)
	agent := agenttest.Start(b, agenttest.Options{Config: a.file(dir, cluster.Addrs()[0]), Args: []string{"--log-level", "warn"}})
	agent.WaitStatus("all to run", func(s agenttest.Status) bool { return s.Summary["RUNNING"] == a.consumers })
	unix.Sync() // the start left data for the disk

	const idle = 5
	before := disk.read(b)
	<-time.After(idle * time.Second)
	idleWrites := float64(disk.read(b).writes-before.writes) / idle

	defer a.produce(b, cluster.Addrs()[0])()
	<-time.After(10 * time.Second) // until files and buffers exist and flushes are regular

	flushes, spent := flushTotals(b, agent)
	others := otherBytes(b, agent.Pid())
	cpu, began := cpuSeconds(b, agent.Pid()), time.Now()
	before = disk.read(b)
	<-time.After(time.Duration(number("KCAGENT_BENCH_SECONDS", 30)) * time.Second)
	after := disk.read(b)
	cores := (cpuSeconds(b, agent.Pid()) - cpu) / time.Since(began).Seconds()
	took := time.Since(began).Seconds()
	otherMiB := float64(otherBytes(b, agent.Pid())-others) / (1 << 20)
	endFlushes, endSpent := flushTotals(b, agent)
	flushes = endFlushes - flushes
	if flushes == 0 {
		b.Fatal("no consumer flushed")
	}
	mean := 1e3 * (endSpent - spent) / flushes
	writes, cacheFlushes := float64(after.writes-before.writes)/flushes, float64(after.flushes-before.flushes)/flushes
	kib := float64(after.sectors-before.sectors) / 2 / flushes
	threads, rss := agent.Status().Resources.OSThreads, memory(b, agent.Pid(), "VmRSS")

	fmt.Printf("| %s | %s | %.0f | %.2f | %.2f | %.1f | %.1f | %.3f | %.0f | %d | %.1f | %.1f |\n",
		a.kind(), a.delivery, flushes/took, writes, cacheFlushes, kib, mean, cores, rss, threads, idleWrites, otherMiB)
	topics := "one"
	if a.own {
		topics = "own"
	}
	rows.add("%s,%s,%d,%.1f,%.3f,%.3f,%.2f,%.2f,%.4f,%.1f,%d,%.2f,%.2f",
		topics, a.delivery, a.consumers, flushes/took, writes, cacheFlushes, kib, mean, cores, rss, threads, idleWrites, otherMiB)
	b.ReportMetric(writes, "writes/flush")
	b.ReportMetric(mean, "ms/flush")
	b.ReportMetric(cores, "cores")
	b.ReportMetric(flushes/took, "flushes/s")
	b.ReportMetric(0, "ns/op") // meaningless here
	agent.Signal(os.Interrupt)
	if code := agent.WaitExit(40 * time.Second); code != 0 {
		b.Errorf("%s, %s: exit code %d", a.kind(), a.delivery, code)
	}
}

func (a active) file(dir, broker string) string {
	run := time.Now().UnixNano() // groups without committed offsets
	var text strings.Builder
	text.WriteString("limits: {max_consumers: 10000}\nconsumers:\n")
	for i := range a.consumers {
		topic := "shared"
		if a.own {
			topic = fmt.Sprint("own", i)
		}
		fmt.Fprintf(&text, "- {name: c%d, brokers: [%q], topics: [%s], group: active-%d-%d, start: latest, flush: {interval: %v}, sink: {file: {path: %q, delivery: %s}}}\n",
			i, broker, topic, run, i, activeInterval, filepath.Join(dir, fmt.Sprint(i, ".log")), a.delivery)
	}
	return text.String()
}

// produce produces records until stop is called.
func (a active) produce(b *testing.B, broker string) (stop func()) {
	b.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		b.Fatal(err)
	}
	topics, pause := []string{"shared"}, oneTopicPause
	if a.own {
		topics = topics[:0]
		for _, i := range rand.Perm(a.consumers) {
			topics = append(topics, fmt.Sprint("own", i))
		}
		pause = ownTopicPause
	}
	value := []byte(strings.Repeat("x", activeRecord))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		began, sent := time.Now(), 0
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			// Each topic gets one record per pause, at even distances.
			for due := 1 + int(time.Since(began)*time.Duration(len(topics))/pause); sent < due; sent++ {
				client.Produce(ctx, &kgo.Record{Topic: topics[sent%len(topics)], Value: value}, func(_ *kgo.Record, err error) {
					if err != nil && ctx.Err() == nil {
						b.Errorf("produce: %v", err)
					}
				})
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-ended
		client.Close()
	}
}

// flushTotals returns the number of flushes of all consumers, and the seconds that they
// took.
func flushTotals(b *testing.B, a *agenttest.Agent) (count, seconds float64) {
	b.Helper()
	family := a.Metrics()["kcagent_consumer_flush_duration_seconds"]
	if family == nil {
		b.Fatal("the agent has no metric of flushes")
	}
	for _, m := range family.Metric {
		count += float64(m.Histogram.GetSampleCount())
		seconds += m.Histogram.GetSampleSum()
	}
	return count, seconds
}

// dataFolder returns a new folder for the consumers' files.
func dataFolder(b *testing.B) string {
	b.Helper()
	parent := os.Getenv("KCAGENT_BENCH_DIR")
	if parent == "" {
		return b.TempDir()
	}
	dir, err := os.MkdirTemp(parent, "kcagent-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) }) // a temporary folder
	return dir
}

// memoryFolder returns a new folder on a tmpfs.
func memoryFolder(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "kcagent-bench-")
	if err != nil {
		b.Skipf("Kafka's data must stay off the measured disk: %v", err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) }) // a temporary folder
	return dir
}

// A device is the block device of a folder.
type device struct {
	stat  string // file with the counters of the kernel
	whole string // the same of the whole disk, which alone counts flushes of the cache
}

// ioCounts are a device's counters since the machine started.
type ioCounts struct{ writes, sectors, flushes int64 }

// findDevice returns the device of a folder. It skips the benchmark on file systems
// without a block device of their own, such as tmpfs and btrfs.
func findDevice(b *testing.B, dir string) device {
	b.Helper()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		b.Fatal(err)
	}
	dev := uint64(st.Dev)
	base, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev)))
	if err != nil {
		b.Skipf("%s is not on a block device, set KCAGENT_BENCH_DIR to a folder that is: %v", dir, err)
	}
	d := device{stat: filepath.Join(base, "stat"), whole: filepath.Join(base, "stat")}
	if _, err := os.Stat(filepath.Join(base, "partition")); err == nil {
		d.whole = filepath.Join(filepath.Dir(base), "stat")
	}
	return d
}

// read reads the counters, in the order of Documentation/block/stat.rst of the kernel.
func (d device) read(b *testing.B) ioCounts {
	b.Helper()
	own, whole := fields(b, d.stat), fields(b, d.whole)
	if len(own) < 7 || len(whole) < 16 {
		b.Skipf("%s has no count of flushes; it needs Linux 5.5", d.whole)
	}
	return ioCounts{writes: own[4], sectors: own[6], flushes: whole[15]}
}

func fields(b *testing.B, path string) []int64 {
	b.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	var values []int64
	for f := range strings.FieldsSeq(string(text)) {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			b.Fatalf("read %s: %v", path, err)
		}
		values = append(values, n)
	}
	return values
}

// otherBytes returns how many bytes processes other than pid have written to disks,
// including their ended children. Only root sees all processes.
func otherBytes(b *testing.B, pid int) int64 {
	b.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/io")
	if err != nil {
		b.Fatal(err)
	}
	var sum int64
	for _, path := range paths {
		if path == fmt.Sprintf("/proc/%d/io", pid) {
			continue
		}
		if _, err := os.Readlink(filepath.Join(filepath.Dir(path), "exe")); err != nil {
			continue // a thread of the kernel, such as that of a loop device
		}
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended, or belongs to another user
		}
		if _, rest, found := strings.Cut(string(text), "\nwrite_bytes: "); found {
			line, _, _ := strings.Cut(rest, "\n")
			n, _ := strconv.ParseInt(line, 10, 64)
			sum += n
		}
	}
	return sum
}
