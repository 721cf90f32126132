package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"kcagent/e2e/kafkatest"
	"kcagent/e2e/process"
	"kcagent/e2e/wait"
)

// parts are what the CPU time of kcagent is spent on, and how they are recognised in the
// stack of a sample: the first part with a function in the stack counts.
var parts = []struct {
	name      string
	functions []string // parts of their names
}{
	{"sync", []string{"Fdatasync", "os.(*File).Sync", "unix.SyncFileRange", "unix.Syncfs"}},
	{"reserve space", []string{"Fallocate"}},
	{"write to the file", []string{"os.(*File).Write", "unix.Pwrite", "unix.Write"}},
	{"read from the socket", []string{"net.(*conn).Read", "net.(*netFD).Read", "unix.Recv", "internal/poll.(*FD).Read"}},
	{"checksum", []string{"hash/crc32"}},
	{"decompress", []string{"klauspost/compress", "pierrec/lz4"}},
	{"encode and copy", []string{"kcagent/sink/encode", "runtime.memmove"}},
	{"parse", []string{"kcagent/fetch/batch", "kcagent/fetch/wire", "kcagent/fetch/partition"}},
	{"Go's scheduler and collector", []string{"runtime.mcall", "runtime.gcBgMarkWorker", "runtime.mstart", "runtime.mallocgc"}},
}

// partOf returns the name of the part that a stack of functions belongs to.
func partOf(stack []string) string {
	for _, p := range parts {
		for _, function := range stack {
			for _, name := range p.functions {
				if strings.Contains(function, name) {
					return p.name
				}
			}
		}
	}
	return "other"
}

// BenchmarkProfile measures what kcagent spends its CPU time on while it drains a topic. The
// build that it measures has a file more, which writes a CPU profile.
func BenchmarkProfile(b *testing.B) {
	kafkatest.Require(b)
	dir := b.TempDir()
	binary, written := filepath.Join(dir, "kcagent"), filepath.Join(dir, "profile")
	buildProfiled(b, dir, binary)
	cluster := kafkatest.Start(b, kafkatest.Options{})
	rows := newRows(b, "profile.csv", "bytes,codec,format,round,part,cpu_s_per_gb")
	fmt.Println("| record | codec | format | round | part | CPU-s/GB |\n|---|---|---|---|---|---|")
	mb := number("KCAGENT_BENCH_MB", 1000)
	for _, l := range []load{{200, "none", 4, mb}, {200, "zstd", 4, mb}} {
		fill(b, cluster, l)
		for round := range number("KCAGENT_BENCH_ROUNDS", 3) {
			for _, format := range []string{"raw", "json"} {
				_ = os.Remove(written)
				p := agent(b, binary, dir, cluster.Addrs()[0], fmt.Sprintf("profile-%s-%d-%d", format, round, b.N), ", format: "+format, l)
				p.cmd.Env = append(os.Environ(), "KCAGENT_BENCH_PROFILE="+written)
				p.end = func(running *process.Process) {
					running.Signal(syscall.SIGUSR2)
					wait.For(b, 10*time.Second, "the profile", func() error { _, err := os.Stat(written); return err })
				}
				drain(b, p, l)
				seconds := readProfile(b, written)
				for _, name := range slices.Sorted(maps.Keys(seconds)) {
					fmt.Printf("| %d B | %s | %s | %d | %s | %.3f |\n", l.size, l.codec, format, round+1, name, seconds[name]/l.gigabytes())
					rows.add("%d,%s,%s,%d,%s,%.4f", l.size, l.codec, format, round+1, name, seconds[name]/l.gigabytes())
				}
			}
		}
		cluster.DeleteTopic(b, l.topic())
	}
	b.ReportMetric(0, "ns/op") // meaningless here
}

// buildProfiled builds kcagent with testdata/profile.go.txt.
func buildProfiled(b *testing.B, dir, binary string) {
	b.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		b.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(root, "profile_for_bench.go"): filepath.Join(root, "bench", "testdata", "profile.go.txt"),
	}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, "kcagent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build kcagent with a profile: %v\n%s", err, text)
	}
}

// readProfile returns the seconds of CPU of each part.
func readProfile(b *testing.B, path string) map[string]float64 {
	b.Helper()
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	p, err := profile.Parse(f)
	if err == nil && len(p.SampleType) != 2 {
		err = errors.New("it is not a CPU profile")
	}
	if err != nil {
		b.Fatalf("read %s: %v", path, err)
	}
	seconds := make(map[string]float64)
	for _, s := range p.Sample {
		var stack []string
		for _, at := range s.Location {
			for _, line := range at.Line {
				stack = append(stack, line.Function.Name)
			}
		}
		seconds[partOf(stack)] += float64(s.Value[1]) / 1e9
	}
	return seconds
}
