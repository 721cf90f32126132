package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"kcagent/limits"
)

// gcPercent is how much a heap may grow between collections. What the agent
// passes through is not garbage, for its buffers are used again, so collections
// are rare, and half as much as Go's default costs nothing that could be
// measured. It is a third of the memory of a thousand idle consumers.
const gcPercent = 40

// SetUpMemory makes the garbage collector keep the process below the limit of
// its cgroup, with a tenth to spare, so that a container is not killed for
// garbage. GOMEMLIMIT and GOGC, where they are set, are obeyed instead.
func SetUpMemory(log *slog.Logger) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	_, err := memlimit.Set(memlimit.WithProvider(fromCgroup), memlimit.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return fmt.Errorf("take the memory limit from the cgroup: %w; set GOMEMLIMIT instead", err)
	}
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 { // a negative limit only asks
		limits.Records.SetLimit(limit)
		log.Info("memory is limited", "bytes", limit)
	}
	return nil
}

// fromCgroup is memlimit's, but that a system without cgroups has no limit.
func fromCgroup() (uint64, error) {
	limit, err := memlimit.FromCgroup()
	for _, none := range []error{memlimit.ErrNoCgroup, memlimit.ErrCgroupsNotSupported, os.ErrNotExist} {
		if errors.Is(err, none) {
			return 0, memlimit.ErrNoLimit
		}
	}
	return limit, err
}
