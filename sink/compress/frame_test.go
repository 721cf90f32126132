package compress

import (
	"runtime"
	"testing"
)

// TestZstdEncoderFollowsTheCores: the shared encoder compresses as many frames at a time as there are
// cores, also if their number grows while the process runs.
func TestZstdEncoderFollowsTheCores(t *testing.T) {
	for _, cores := range []int{2, 8, 12, 2} {
		was := runtime.GOMAXPROCS(cores)
		e := zstdEncoder()
		runtime.GOMAXPROCS(was)
		if s := zstdShared.Load(); s.Encoder != e || s.calls < cores {
			t.Errorf("%d frames at a time on %d cores", s.calls, cores)
		}
	}
}
