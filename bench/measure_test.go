package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kcagent/e2e/process"
)

// number reads a setting.
func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// rows collects lines of CSV.
type rows struct {
	b    *testing.B
	path string // empty: nowhere
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

// A result counts megabytes and gigabytes of values, not of what a format makes
// of them, and how many seconds after the start the first of them came.
type result struct{ mbPerSecond, cpuPerGB, rss, start float64 }

// drain runs cmd until its file has all records. The time runs from the first
// byte, so that joining the group does not count.
func drain(b *testing.B, cmd *exec.Cmd, out string, l load) result {
	b.Helper()
	if cmd.Stdout == nil {
		for _, suffix := range []string{"", "+checkpoint"} {
			_ = os.Remove(out + suffix)
		}
	}
	unix.Sync() // what the one before left for the disk is not this one's
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
		want -= 64 << 10 // the rest may stay in the buffer of kcat's standard output
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
		// How long the envelopes are is not known beforehand: the last change
		// before a second of silence was the end.
		done := !json && size >= want || json && size > want && now.Sub(still) > time.Second
		switch {
		case size > 0 && began.IsZero():
			began, first = now, size
		case done:
			gb := float64(l.records()) * float64(l.size) / 1e9
			return result{
				mbPerSecond: gb * 1e3 * (1 - float64(first)/float64(size)) / still.Sub(began).Seconds(),
				cpuPerGB:    cpuSeconds(b, p.Pid()) / gb, rss: peakRSS(b, p.Pid()), start: began.Sub(launched).Seconds(),
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

func peakRSS(b *testing.B, pid int) float64 { return memory(b, pid, "VmHWM:") }

// memory reads a field of /proc/PID/status in MiB.
func memory(b *testing.B, pid int, field string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), field)
	kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return kib / 1024
}

// median takes the median of each figure by itself.
func median(rs []result) result {
	if len(rs) == 0 {
		return result{}
	}
	of := func(figure func(result) float64) float64 {
		xs := make([]float64, len(rs))
		for i, r := range rs {
			xs[i] = figure(r)
		}
		sort.Float64s(xs)
		return xs[len(xs)/2]
	}
	return result{
		of(func(r result) float64 { return r.mbPerSecond }),
		of(func(r result) float64 { return r.cpuPerGB }),
		of(func(r result) float64 { return r.rss }),
		of(func(r result) float64 { return r.start }),
	}
}

func build(b *testing.B, out, pkg string) {
	b.Helper()
	if text, err := exec.Command("go", "build", "-o", out, pkg).CombinedOutput(); err != nil {
		b.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
}
