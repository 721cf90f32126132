package bench

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
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

// A program is a started command that writes what it reads from a broker into a file.
type program struct {
	cmd    *exec.Cmd
	config string                 // the file of kcagent's consumers; empty for other programs
	broker string                 // host:port, of the server that it reads from
	out    string                 // the file
	want   int64                  // its bytes at the end, at least
	open   bool                   // whether it may have more than want: a second without a change is its end
	synced string                 // another file, which the program creates after its last sync; empty for none
	end    func(*process.Process) // called before the program is stopped; nil for nothing
}

// A result holds what drain measured. Megabytes and gigabytes count values only,
// independent of the format.
type result struct {
	mbPerSecond, syncedPerSecond float64 // the latter until the program has synced
	user, system                 float64 // CPU-s/GB, of the whole process from its start
	rss                          float64 // peak in MiB
	fetch, file                  float64 // seconds from the start to the first fetched bytes, and to the first in the file
}

func (r result) cpu() float64 { return r.user + r.system }

// fetched is how many bytes the connections of a program receive before it counts as
// reading records: more than the responses about topics and the group, less than any
// response with records.
const fetched = 64 << 10

// drain runs a program until its file has all records. It measures from the first fetch
// on, so that the time to join the group does not count, but all reading ahead does.
func drain(b testing.TB, p program, l load) result {
	b.Helper()
	unix.Sync() // the program before left data for the disk
	// Last, so that the kernel reuses the memory of the former file at once. Memory that stays
	// free goes back to the host of a virtual machine, and is several times as slow on its next
	// use.
	if p.cmd.Stdout == nil {
		for _, suffix := range []string{"", "+checkpoint", ".synced"} {
			_ = os.Remove(p.out + suffix)
		}
	}
	if p.cmd.Stderr == nil {
		p.cmd.Stderr = os.Stderr
	}
	before := receivedFrom(b, p.broker)
	launched := time.Now()
	running, err := process.Start(p.cmd)
	if err != nil {
		b.Fatal(err)
	}
	defer running.Stop(10 * time.Second)
	var began, written, changed time.Time // of the first fetch, of the first bytes in the file, of its last change
	var last int64
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for now, deadline := launched, launched.Add(3*time.Minute); ; <-tick.C {
		previous := now
		now = time.Now()
		if began.IsZero() && receivedSince(b, p.broker, before) > fetched {
			began = previous
		}
		var size int64
		if info, err := os.Stat(p.out); err == nil {
			size = info.Size()
		}
		if size != last {
			last, changed = size, now
		}
		if size > 0 && written.IsZero() {
			written = now
		}
		_, err := os.Stat(p.synced)
		done := size >= p.want && (!p.open || now.Sub(changed) > time.Second) && (p.synced == "" || err == nil)
		switch {
		case done && began.IsZero():
			b.Fatalf("%s wrote %d bytes without reading from %s", p.cmd.Path, size, p.broker)
		case done:
			user, system := cpuTimes(b, running.Pid())
			gb, rss := l.gigabytes(), memory(b, running.Pid(), "VmHWM")
			if p.end != nil {
				p.end(running)
			}
			return result{
				mbPerSecond: gb * 1e3 / changed.Sub(began).Seconds(), syncedPerSecond: gb * 1e3 / now.Sub(began).Seconds(),
				user: user / gb, system: system / gb, rss: rss,
				fetch: began.Sub(launched).Seconds(), file: written.Sub(launched).Seconds(),
			}
		case now.After(deadline):
			b.Fatalf("%s wrote %d of %d bytes", p.cmd.Path, size, p.want)
		}
	}
}

// receivedFrom returns how many bytes each connection to a server has received.
func receivedFrom(b testing.TB, server string) map[uint64]int64 {
	b.Helper()
	addr, err := netip.ParseAddrPort(server)
	if err != nil {
		b.Fatal(err)
	}
	sockets, err := received(addr.Port())
	if err != nil {
		b.Fatal(err)
	}
	return sockets
}

// receivedSince returns how many bytes all connections to a server have received since
// receivedFrom returned before. Connections of the program before may end meanwhile.
func receivedSince(b testing.TB, server string, before map[uint64]int64) int64 {
	b.Helper()
	var sum int64
	for socket, n := range receivedFrom(b, server) {
		sum += n - before[socket]
	}
	return sum
}

// cpuTimes returns the seconds of CPU that a process has used so far.
func cpuTimes(b testing.TB, pid int) (user, system float64) {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ = strconv.ParseFloat(fields[11], 64)
	system, _ = strconv.ParseFloat(fields[12], 64)
	return user / 100, system / 100 // clock ticks: 100 a second on every Linux
}

// cpuSeconds returns the sum of cpuTimes.
func cpuSeconds(b *testing.B, pid int) float64 {
	b.Helper()
	user, system := cpuTimes(b, pid)
	return user + system
}

// memory returns a field of /proc/PID/status in MiB.
func memory(b testing.TB, pid int, field string) float64 {
	b.Helper()
	n, err := process.Memory(pid, field)
	if err != nil {
		b.Fatal(err)
	}
	return float64(n) / (1 << 20)
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
