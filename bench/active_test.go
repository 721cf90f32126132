package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
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
	disk := ownDisk(b)
	rows := newRows(b, "active.csv", "topics,delivery,consumers,flushes_per_s,writes_per_flush,device_flushes_per_flush,"+
		"kib_per_flush,write_calls_per_flush,own_kib_per_flush,flush_ms,cores,rss_mib,threads,goroutines,idle_writes_per_s,other_mib")
	fmt.Println("| active | delivery | flushes/s | writes a flush | device flushes a flush | KiB a flush | mean flush ms | cores |" +
		" RSS MiB | OS threads | goroutines | idle writes/s | others wrote MiB |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, topics := range []string{"one topic", "own topics"} {
		for _, delivery := range []string{"exactly_once", "at_least_once"} {
			a := active{consumers: n, own: topics == "own topics", delivery: delivery}
			b.Run(strings.ReplaceAll(topics, " ", "_")+"/"+delivery, func(b *testing.B) {
				for range b.N {
					a.measure(b, cluster, disk, rows)
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

func (a active) measure(b *testing.B, cluster *kafkatest.Cluster, disk *device, rows rows) {
	b.Helper()
	agent := agenttest.Start(b, agenttest.Options{Config: a.file(folder(b, disk), cluster.Addrs()[0]), Args: []string{"--log-level", "warn"}})
	agent.WaitStatus("all to run", func(s agenttest.Status) bool { return s.Summary["RUNNING"] == a.consumers })
	unix.Sync() // the start left data for the disk

	const idle = 5
	idleWrites := 0.0
	if disk != nil {
		before := disk.read(b)
		<-time.After(idle * time.Second)
		idleWrites = float64(disk.read(b).writes-before.writes) / idle
	}

	defer a.produce(b, cluster.Addrs()[0])()
	<-time.After(10 * time.Second) // until files and buffers exist and flushes are regular

	others := otherBytes(b, agent.Pid())
	f := watchFlushes(b, agent, disk, number("KCAGENT_BENCH_SECONDS", 20))
	otherMiB := float64(otherBytes(b, agent.Pid())-others) / (1 << 20)
	used, rss := agent.Status().Resources, memory(b, agent.Pid(), "VmRSS")

	fmt.Printf("| %s | %s | %.0f | %.2f | %.2f | %.1f | %.1f | %.3f | %.0f | %d | %d | %.1f | %.1f |\n",
		a.kind(), a.delivery, f.perSecond, f.writes, f.cacheFlushes, f.kib, f.ms, f.cores, rss, used.OSThreads, used.Goroutines, idleWrites, otherMiB)
	topics := "one"
	if a.own {
		topics = "own"
	}
	rows.add("%s,%s,%d,%.1f,%.3f,%.3f,%.2f,%.3f,%.2f,%.2f,%.4f,%.1f,%d,%d,%.2f,%.2f",
		topics, a.delivery, a.consumers, f.perSecond, f.writes, f.cacheFlushes, f.kib, f.writeCalls, f.ownKiB, f.ms, f.cores, rss, used.OSThreads, used.Goroutines, idleWrites, otherMiB)
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
