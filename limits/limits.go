// Package limits divides the descriptors and the memory of the process between the parts of
// the agent, so that no part can use all of them. With more files or brokers than it may
// open, the agent still serves the HTTP API and reads its configuration.
//
// [Descriptors] and [Budget] are for descriptors, [Memory] for the records in memory, and
// [SetUpGC] sets the memory limit of the process. They count, and never wait.
package limits

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
)

// Descriptors is how many descriptors the process may have open, and how they are
// divided.
type Descriptors struct {
	Limit       int // RLIMIT_NOFILE
	Files       int // for the files of sinks
	Connections int // for clients of the HTTP API
	Brokers     int // for connections to brokers
	Members     int // of Brokers, for connections of members to their coordinators
	Stores      int // for connections to object stores
	// The rest is not counted: configuration, secrets, folders that are synced, the log,
	// and the watches and polls of the runtime.
}

// unlimited is assumed if the system has no limit, or a higher one.
const unlimited = 1 << 20

// divide divides a limit between the parts.
func divide(limit int) Descriptors {
	d := Descriptors{Limit: min(max(limit, 0), unlimited)}
	d.Files = d.Limit / 2
	d.Connections = min(max(d.Limit/8, 8), 256)
	d.Stores = min(max(d.Limit/16, 4), 32) // requests at a time: 8 uploads, 8 lookups, 16 pre-checks
	d.Brokers = max(d.Limit-d.Files-d.Connections-d.Stores-max(d.Limit/16, 16), 4)
	// Without a connection that fetches, no consumer gets records.
	d.Members = d.Brokers - min(max(d.Brokers/8, 8), d.Brokers/2)
	return d
}

// Of returns the limit of this process, read once. Go has raised it to the hard
// limit by then: package syscall does so before main.
var Of = sync.OnceValue(func() Descriptors {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return divide(1024) // the usual one
	}
	return divide(int(min(r.Cur, unlimited)))
})

// A Budget counts the open descriptors of one kind. Its methods neither wait nor
// allocate, and are safe for concurrent use.
type Budget struct {
	limit  int // of the process
	share  int // of it, for this kind
	kind   string
	parent *Budget // of which share is a part; nil if there is none
	used   atomic.Int64
}

// NewBudget returns a budget of n descriptors for files of sinks.
func NewBudget(n int) *Budget { return Descriptors{Limit: n, Files: n}.files() }

// files returns a budget for the files of sinks.
func (d Descriptors) files() *Budget {
	return &Budget{limit: d.Limit, share: d.Files, kind: "files of sinks"}
}

// brokers returns a budget for connections to brokers.
func (d Descriptors) brokers() *Budget {
	return &Budget{limit: d.Limit, share: d.Brokers, kind: "connections to brokers"}
}

// members returns a budget for connections to coordinators, which count in brokers as well.
func (d Descriptors) members(brokers *Budget) *Budget {
	return &Budget{limit: d.Limit, share: d.Members, kind: "connections to coordinators", parent: brokers}
}

// stores returns a budget for connections to object stores.
func (d Descriptors) stores() *Budget {
	return &Budget{limit: d.Limit, share: d.Stores, kind: "connections to object stores"}
}

// Files is the budget of all file sinks of the process, Brokers that of all its connections
// to brokers, Members the part of Brokers for connections to coordinators, and Stores that of all
// its connections to object stores.
var (
	Files   = sync.OnceValue(func() *Budget { return Of().files() })
	Brokers = sync.OnceValue(func() *Budget { return Of().brokers() })
	Members = sync.OnceValue(func() *Budget { return Of().members(Brokers()) })
	Stores  = sync.OnceValue(func() *Budget { return Of().stores() })
)

// Acquire takes n descriptors; if fewer are left it takes none and returns false.
func (b *Budget) Acquire(n int) bool {
	if !b.acquire(n) {
		return false
	}
	if b.parent != nil && !b.parent.Acquire(n) {
		b.used.Add(int64(-n))
		return false
	}
	return true
}

// acquire is Acquire without the parent.
func (b *Budget) acquire(n int) bool {
	for {
		used := b.used.Load()
		if used+int64(n) > int64(b.share) {
			return false
		}
		if b.used.CompareAndSwap(used, used+int64(n)) {
			return true
		}
	}
}

// Release returns n descriptors that Acquire took.
func (b *Budget) Release(n int) {
	if b.used.Add(int64(-n)) < 0 {
		panic("limits: more descriptors were released than acquired")
	}
	if b.parent != nil {
		b.parent.Release(n)
	}
}

// Err returns the error for an open for which Acquire returned false.
func (b *Budget) Err() error {
	return DescriptorError(fmt.Sprintf("limit of %d descriptors reached (%d for %s); raise it with LimitNOFILE= or ulimit -n", b.limit, b.share, b.kind))
}

// A DescriptorError reports that a budget is used up.
type DescriptorError string

func (e DescriptorError) Error() string { return string(e) }
