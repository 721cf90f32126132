package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kcagent/e2e/agenttest"
)

// flushes is what the flushes of an agent cost.
type flushes struct {
	perSecond, ms, cores      float64
	writes, cacheFlushes, kib float64 // of the device, for each flush; 0 without a device of its own
	writeCalls, ownKiB        float64 // write system calls of the process, also to sockets, and what it made the kernel write, for each flush
}

// watchFlushes measures for some seconds. disk is nil if other programs use the device of
// the agent's files.
func watchFlushes(b *testing.B, a *agenttest.Agent, disk *device, seconds int) flushes {
	b.Helper()
	var before, now ioCounts
	if disk != nil {
		before = disk.read(b)
	}
	count, spent := flushTotals(b, a)
	calls, bytes := ownWrites(b, a.Pid())
	cpu, began := cpuSeconds(b, a.Pid()), time.Now()
	<-time.After(time.Duration(seconds) * time.Second)
	took := time.Since(began).Seconds()
	cpu = cpuSeconds(b, a.Pid()) - cpu
	if disk != nil {
		now = disk.read(b)
	}
	endCalls, endBytes := ownWrites(b, a.Pid())
	endCount, endSpent := flushTotals(b, a)
	n := endCount - count
	if n == 0 {
		b.Fatal("no consumer flushed")
	}
	return flushes{
		perSecond: n / took, ms: 1e3 * (endSpent - spent) / n, cores: cpu / took,
		writes: float64(now.writes-before.writes) / n, cacheFlushes: float64(now.flushes-before.flushes) / n,
		kib: float64(now.sectors-before.sectors) / 2 / n, writeCalls: (endCalls - calls) / n, ownKiB: (endBytes - bytes) / 1024 / n,
	}
}

// ownWrites returns the write system calls of a process so far, and the bytes that it made
// the kernel write to disks.
func ownWrites(b *testing.B, pid int) (calls, bytes float64) {
	b.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "io"))
	if err != nil {
		b.Fatal(err)
	}
	for _, field := range []struct {
		name  string
		value *float64
	}{{"syscw:", &calls}, {"write_bytes:", &bytes}} {
		if _, err := fmt.Sscan(after(string(text), field.name), field.value); err != nil {
			b.Fatalf("read %s of process %d: %v", field.name, pid, err)
		}
	}
	return calls, bytes
}

// ownDisk returns a file system that only the benchmark writes to: that of
// KCAGENT_BENCH_DIR, or else a new one on a loop device, which only root can create. It
// returns nil if there is none.
func ownDisk(b *testing.B) *device {
	b.Helper()
	if dir := os.Getenv("KCAGENT_BENCH_DIR"); dir != "" {
		return findDevice(b, dir)
	}
	dir := b.TempDir()
	image, mounted := filepath.Join(dir, "image"), filepath.Join(dir, "mounted")
	if err := os.Mkdir(mounted, 0o700); err != nil {
		b.Fatal(err)
	}
	for _, command := range [][]string{
		{"truncate", "-s", "4G", image},
		{"mkfs.ext4", "-q", image},
		{"mount", "-o", "loop", image, mounted},
	} {
		if text, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			fmt.Printf("the device's own writes are not counted: %s: %v %s\n", command[0], err, text)
			return nil
		}
	}
	b.Cleanup(func() { output("umount", mounted) })
	return findDevice(b, mounted)
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

// dataFolder returns a new folder below KCAGENT_BENCH_DIR, or a temporary one.
func dataFolder(b *testing.B) string {
	b.Helper()
	parent := os.Getenv("KCAGENT_BENCH_DIR")
	if parent == "" {
		return b.TempDir()
	}
	return newFolder(b, parent)
}

// folder returns a new folder on a disk, or a temporary one if disk is nil.
func folder(b *testing.B, disk *device) string {
	b.Helper()
	if disk == nil {
		return b.TempDir()
	}
	return newFolder(b, disk.dir)
}

func newFolder(b *testing.B, parent string) string {
	b.Helper()
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

// A device is the block device of a folder that only the benchmark writes to.
type device struct {
	dir   string
	stat  string // file with the counters of the kernel
	whole string // the same of the whole disk, which alone counts flushes of the cache
}

// ioCounts are a device's counters since the machine started.
type ioCounts struct{ writes, sectors, flushes int64 }

// findDevice returns the device of a folder. It skips the benchmark on file systems
// without a block device of their own, such as tmpfs and btrfs.
func findDevice(b *testing.B, dir string) *device {
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
	d := &device{dir: dir, stat: filepath.Join(base, "stat"), whole: filepath.Join(base, "stat")}
	if _, err := os.Stat(filepath.Join(base, "partition")); err == nil {
		d.whole = filepath.Join(filepath.Dir(base), "stat")
	}
	return d
}

// read reads the counters, in the order of Documentation/block/stat.rst of the kernel.
func (d *device) read(b *testing.B) ioCounts {
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
