package bench

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/process"
)

// BenchmarkSizing measures what partitions cost that have a file each: memory, descriptors,
// goroutines and the space of checkpoints. The figures of docs/sizing.md are from it.
//
// It runs on embedded brokers, because memory and descriptors of the agent do not depend on
// the broker. It measures no speed.
func BenchmarkSizing(b *testing.B) {
	agenttest.Binary(b) // do not measure the build
	rows := newRows(b, "sizing.csv", "kind,consumers,brokers,partitions,rss_mib,peak_rss_mib,files,sockets,goroutines,checkpoints_kib,mb_per_s")
	fmt.Println("| kind | consumers | brokers | partitions | RSS MiB | peak RSS MiB | files | sockets | goroutines | checkpoints KiB | MB/s |\n" +
		"|---|---|---|---|---|---|---|---|---|---|---|")
	for _, s := range []sizing{
		{kind: "a file for each partition", consumers: 1, brokers: 1, partitions: 1, path: "{topic}-{partition}.log"},
		{kind: "a file for each partition", consumers: 1, brokers: 1, partitions: 100, path: "{topic}-{partition}.log"},
		{kind: "a file for each partition", consumers: 1, brokers: 1, partitions: 1000, path: "{topic}-{partition}.log"},
		{kind: "a file for each partition", consumers: 1, brokers: 1, partitions: 5000, path: "{topic}-{partition}.log"},
		{kind: "zstd", consumers: 1, brokers: 1, partitions: 1000, path: "{topic}-{partition}.log.zst", compression: "zstd"},
		{kind: "gzip", consumers: 1, brokers: 1, partitions: 1000, path: "{topic}-{partition}.log.gz", compression: "gzip"},
		{kind: "one file", consumers: 1, brokers: 1, partitions: 1000, path: "all.log"},
		{kind: "a file for each partition", consumers: 200, brokers: 3, partitions: 2000, path: "{topic}-{partition}.log"},
		{kind: "a file for each partition", consumers: 1000, brokers: 1, partitions: 1000, path: "{topic}-{partition}.log"},
		{kind: "with records", consumers: 200, brokers: 3, partitions: 2000, path: "{topic}-{partition}.log", rate: 40},
		{kind: "with records, zstd", consumers: 200, brokers: 3, partitions: 2000, path: "{topic}-{partition}.log.zst", compression: "zstd", rate: 40},
		{kind: "with records, zstd, limit of 384 MiB", consumers: 200, brokers: 3, partitions: 2000, path: "{topic}-{partition}.log.zst", compression: "zstd", rate: 40, limit: 384 << 20},
	} {
		b.Run(strings.ReplaceAll(fmt.Sprint(s.kind, "/", s.consumers, "/", s.partitions), " ", "_"), func(b *testing.B) {
			for range b.N {
				s.measure(b, rows)
			}
		})
	}
}

// A sizing describes consumers that share partitions evenly, each with a topic of its own.
type sizing struct {
	kind                           string
	consumers, brokers, partitions int
	path                           string // of the files, below the folder of the consumer
	compression                    string // empty means none
	rate                           int    // MB/s while the memory is measured; 0 for none
	limit                          int    // of the memory in bytes; 0 for none
}

const (
	sizingRecord  = 1000 // bytes of a value
	sizingBacklog = 20   // records of each partition before the start
	sizingSettle  = 15 * time.Second
	sizingFlow    = 30 * time.Second // with a rate
)

func (s sizing) measure(b *testing.B, rows rows) {
	b.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(s.brokers), kfake.SeedTopics(int32(s.partitions/s.consumers), s.topics()...))
	if err != nil {
		b.Fatal(err)
	}
	defer cluster.Close()
	p := s.newProducer(b, cluster.ListenAddrs())
	defer p.client.Close()
	p.send(b, s.partitions*sizingBacklog)
	dir := dataFolder(b)
	o := agenttest.Options{Config: s.file(dir, cluster.ListenAddrs()), Args: []string{"--log-level", "warn"}}
	if s.limit > 0 { // the share of a cgroup's limit that the agent uses
		o.Through = []string{"env", fmt.Sprint("GOMEMLIMIT=", s.limit/10*9)}
	}
	a := agenttest.Start(b, o)
	written := func(st agenttest.Status) bool {
		n := int64(0)
		for _, c := range st.Consumers {
			n += c.RecordsTotal
		}
		return st.Summary["RUNNING"] == s.consumers && n == int64(p.sent)
	}
	a.WaitStatus("all records to be written", written)
	began, before := time.Now(), p.sent
	for elapsed := time.Duration(0); s.rate > 0 && elapsed < sizingFlow; elapsed = time.Since(began) {
		p.send(b, int(elapsed.Seconds()*float64(s.rate)*1e6/sizingRecord)-(p.sent-before))
		<-time.After(20 * time.Millisecond)
	}
	reached := float64(p.sent-before) * sizingRecord / 1e6 / time.Since(began).Seconds()
	flowing := memory(b, a.Pid(), "VmRSS")
	a.WaitStatus("all records to be written", written)
	if s.rate == 0 {
		<-time.After(sizingSettle) // until garbage of the start is collected
		flowing = memory(b, a.Pid(), "VmRSS")
	}
	sock := sockets(a.Pid())
	files := openBelow(a.Pid(), dir)
	goroutines := a.Status().Resources.Goroutines
	kib := checkpointSpace(b, dir)
	peak := memory(b, a.Pid(), "VmHWM")
	fmt.Printf("| %s | %d | %d | %d | %.0f | %.0f | %d | %d | %d | %d | %.0f |\n",
		s.kind, s.consumers, s.brokers, s.partitions, flowing, peak, files, sock, goroutines, kib, reached)
	rows.add("%s,%d,%d,%d,%.1f,%.1f,%d,%d,%d,%d,%.1f",
		strings.ReplaceAll(s.kind, ",", ""), s.consumers, s.brokers, s.partitions, flowing, peak, files, sock, goroutines, kib, reached)
	a.Signal(os.Interrupt)
	if code := a.WaitExit(40 * time.Second); code != 0 {
		b.Errorf("%s: exit code %d", s.kind, code)
	}
}

func (s sizing) topics() []string {
	names := make([]string, s.consumers)
	for i := range names {
		names[i] = fmt.Sprint("t", i)
	}
	return names
}

func (s sizing) file(dir string, brokers []string) string {
	compression := s.compression
	if compression == "" {
		compression = "none"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "defaults: {brokers: [%s]}\nconsumers:\n", strings.Join(brokers, ", "))
	for i, topic := range s.topics() {
		fmt.Fprintf(&text, "- {name: c%d, topics: [%s], sink: {file: {path: %q, compression: %s}}}\n",
			i, topic, filepath.Join(dir, topic, s.path), compression)
	}
	return text.String()
}

// A sizingProducer sends records to the partitions of all topics in turns.
type sizingProducer struct {
	sizing
	client *kgo.Client
	text   []byte // random digits, from which values are cut: they compress to about a half
	sent   int
}

func (s sizing) newProducer(b *testing.B, brokers []string) *sizingProducer {
	b.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(50*time.Millisecond), kgo.MaxBufferedRecords(1<<20))
	if err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, 1<<20)
	for i := range text {
		text[i] = "0123456789abcdef"[random.IntN(16)]
	}
	return &sizingProducer{sizing: s, client: client, text: text}
}

// send sends n more records and waits until the brokers have them.
func (p *sizingProducer) send(b *testing.B, n int) {
	b.Helper()
	each := p.partitions / p.consumers
	for range n {
		i := p.sent % p.partitions
		at := p.sent * 997 % (len(p.text) - sizingRecord)
		p.sent++
		p.client.Produce(b.Context(), &kgo.Record{Topic: fmt.Sprint("t", i/each), Partition: int32(i % each), Value: p.text[at : at+sizingRecord]}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.Errorf("produce: %v", err)
			}
		})
	}
	if err := p.client.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
}

// openBelow returns the number of descriptors of a process for files below a folder.
func openBelow(pid int, dir string) int {
	n := 0
	for _, file := range process.OpenFiles(pid) {
		if strings.HasPrefix(file, dir) {
			n++
		}
	}
	return n
}

// checkpointSpace returns how many KiB the checkpoints below a folder use on the disk.
func checkpointSpace(b *testing.B, dir string) int64 {
	b.Helper()
	blocks := int64(0)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "+checkpoint") {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			blocks += info.Sys().(*syscall.Stat_t).Blocks
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return blocks / 2 // a block has 512 bytes
}
