package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kcagent/e2e/process"
)

// number returns the value of an environment variable.
func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// rows writes lines of a CSV file.
type rows struct {
	b    *testing.B
	path string // empty discards the lines
}

func newRows(b *testing.B, name, header string) rows {
	b.Helper()
	dir := os.Getenv("KCAGENT_BENCH_OUT")
	if dir == "" {
		return rows{}
	}
	r := rows{b, filepath.Join(dir, name)}
	_ = os.Remove(r.path)
	r.add("%s", header)
	return r
}

func (r rows) add(format string, args ...any) {
	if r.path == "" {
		return
	}
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		r.b.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintf(f, format+"\n", args...)
}

// A result holds what drain measured. Megabytes and gigabytes count values only,
// independent of the format. start is the time in seconds until the first record arrived.
type result struct{ mbPerSecond, cpuPerGB, rss, start float64 }

// drain runs cmd until its file has all records. It measures from the first byte on, so
// the time to join the group does not count.
func drain(b *testing.B, cmd *exec.Cmd, out string, l load) result {
	b.Helper()
	if cmd.Stdout == nil {
		for _, suffix := range []string{"", "+checkpoint"} {
			_ = os.Remove(out + suffix)
		}
	}
	unix.Sync() // the program before left data for the disk
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	launched := time.Now()
	p, err := process.Start(cmd)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Stop(10 * time.Second)
	want := int64(l.records()) * int64(l.size+1)
	if cmd.Stdout != nil {
		want -= 64 << 10 // kcat keeps the rest in the buffer of its standard output
	}
	json := isJSON(b, cmd)
	var began, still time.Time
	var first, last int64
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		var size int64
		if info, err := os.Stat(out); err == nil {
			size = info.Size()
		}
		now := time.Now()
		if size != last {
			last, still = size, now
		}
		// The length of JSON envelopes is unknown in advance. A second without a change
		// marks the end.
		done := !json && size >= want || json && size > want && now.Sub(still) > time.Second
		switch {
		case size > 0 && began.IsZero():
			began, first = now, size
		case done:
			gb := float64(l.records()) * float64(l.size) / 1e9
			return result{
				mbPerSecond: gb * 1e3 * (1 - float64(first)/float64(size)) / still.Sub(began).Seconds(),
				cpuPerGB:    cpuSeconds(b, p.Pid()) / gb, rss: memory(b, p.Pid(), "VmHWM"), start: began.Sub(launched).Seconds(),
			}
		case now.After(deadline):
			b.Fatalf("%s wrote %d of %d bytes", cmd.Path, size, want)
		}
	}
}

func isJSON(b *testing.B, cmd *exec.Cmd) bool {
	b.Helper()
	for i, arg := range cmd.Args {
		if arg == "--config" {
			text, err := os.ReadFile(cmd.Args[i+1])
			if err != nil {
				b.Fatal(err)
			}
			return strings.Contains(string(text), "format: json")
		}
	}
	return false
}

// cpuSeconds returns the CPU time that a process has used so far.
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

// memory returns a field of /proc/PID/status in MiB.
func memory(b *testing.B, pid int, field string) float64 {
	b.Helper()
	n, err := process.Memory(pid, field)
	if err != nil {
		b.Fatal(err)
	}
	return float64(n) / (1 << 20)
}

// median returns the median of each field.
func median(rs []result) result {
	if len(rs) == 0 {
		return result{}
	}
	of := func(figure func(result) float64) float64 {
		values := make([]float64, len(rs))
		for i, r := range rs {
			values[i] = figure(r)
		}
		return middle(values)
	}
	return result{
		of(func(r result) float64 { return r.mbPerSecond }),
		of(func(r result) float64 { return r.cpuPerGB }),
		of(func(r result) float64 { return r.rss }),
		of(func(r result) float64 { return r.start }),
	}
}

// middle returns the median of values.
func middle(values []float64) float64 { return slices.Sorted(slices.Values(values))[len(values)/2] }

// goBuild builds a package of this module into out.
func goBuild(b *testing.B, out, pkg string) {
	b.Helper()
	if text, err := exec.Command("go", "build", "-o", out, pkg).CombinedOutput(); err != nil {
		b.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
}
