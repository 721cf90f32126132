package limits

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"kcagent/logkey"
)

// gcPercent is how much the heap may grow between two garbage collections. Buffers of
// records are reused, so collections are rare. With a thousand active consumers, 25 needed 114 MiB
// and 40 needed 124 MiB; 20 needed as much as 25. The CPU time of single runs differed by a tenth.
const gcPercent = 25

// SetUpGC sets the limit of the garbage collector a tenth below the memory limit of the
// cgroup, so that a container is not killed because of garbage, and passes the limit to
// Records. The environment variables GOMEMLIMIT and GOGC take precedence.
func SetUpGC(log *slog.Logger) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	_, err := memlimit.Set(memlimit.WithProvider(fromCgroup), memlimit.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return fmt.Errorf("read the memory limit of the cgroup: %w; set GOMEMLIMIT instead", err)
	}
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 { // a negative limit is not set
		Records.SetLimit(limit)
		log.Info("memory limit set", logkey.Bytes, limit)
	}
	return nil
}

// fromCgroup is memlimit's function, except that a system without cgroups has no limit.
func fromCgroup() (uint64, error) {
	limit, err := memlimit.FromCgroup()
	for _, none := range []error{memlimit.ErrNoCgroup, memlimit.ErrCgroupsNotSupported, os.ErrNotExist} {
		if errors.Is(err, none) {
			return 0, memlimit.ErrNoLimit
		}
	}
	return limit, err
}
