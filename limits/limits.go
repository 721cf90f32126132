// Package limits divides what the process may have open between the parts of the
// agent, so that none of them takes everything: with thousands of files the agent
// still answers over HTTP, reaches its brokers and reads its configuration.
package limits

import (
	"sync"
	"syscall"
)

// Descriptors is the number of descriptors that the process may have open, and how
// it is divided.
type Descriptors struct {
	Limit       int // RLIMIT_NOFILE
	Files       int // for the files of sinks: a half
	Connections int // for those who connect to the HTTP API: an eighth, from 8 to 256
	// The rest is for brokers, configuration, secrets and the folders that are
	// synced: nobody counts those.
}

// unlimited is assumed where the system has no limit, or a higher one.
const unlimited = 1 << 20

// divide divides a limit.
func divide(limit int) Descriptors {
	limit = min(max(limit, 0), unlimited)
	return Descriptors{Limit: limit, Files: limit / 2, Connections: min(max(limit/8, 8), 256)}
}

// Of returns the limit of this process, read once. Go has raised it to the hard
// limit by then: package syscall does so before main.
var Of = sync.OnceValue(func() Descriptors {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return divide(1024) // what is customary
	}
	return divide(int(min(r.Cur, unlimited)))
})
