package web

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Resources are what the process uses. A value that the system does not report is 0;
// MemoryLimitBytes is 0 if there is no limit.
type Resources struct {
	Goroutines       int     `json:"goroutines" doc:"Goroutines."`
	OSThreads        int     `json:"os_threads" doc:"Threads of the operating system; 0 if unknown."`
	OpenFDs          int     `json:"open_fds" doc:"Open file descriptors; 0 if unknown."`
	RSSBytes         int64   `json:"rss_bytes" doc:"Resident memory in bytes; 0 if unknown."`
	HeapBytes        int64   `json:"heap_bytes" doc:"Live and not yet collected objects on the heap, in bytes."`
	MemoryLimitBytes int64   `json:"memory_limit_bytes" doc:"Memory limit of the Go runtime, from the cgroup or GOMEMLIMIT; 0 if there is none."`
	CPUSeconds       float64 `json:"cpu_seconds" doc:"CPU time since the start, user and system."`
}

func readResources() Resources {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/sched/threads/total:threads"},
	}
	metrics.Read(samples)
	r := Resources{
		Goroutines: runtime.NumGoroutine(),
		HeapBytes:  int64(samples[0].Value.Uint64()),
		OSThreads:  int(samples[1].Value.Uint64()),
	}
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 { // a negative limit is not set
		r.MemoryLimitBytes = limit
	}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		r.OpenFDs = len(fds) - 1 // without the one that reads the directory
	}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(statm)); len(f) > 1 {
			pages, _ := strconv.ParseInt(f[1], 10, 64)
			r.RSSBytes = pages * int64(os.Getpagesize())
		}
	}
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) == nil {
		r.CPUSeconds = cpuSeconds(u.Utime) + cpuSeconds(u.Stime)
	}
	return r
}

func cpuSeconds(t unix.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
