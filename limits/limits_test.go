package limits

import (
	"syscall"
	"testing"
)

func TestDivide(t *testing.T) {
	for _, c := range []struct{ limit, files, connections int }{
		{20, 10, 8},
		{64, 32, 8},
		{256, 128, 32},
		{1024, 512, 128},
		{4096, 2048, 256},
		{1 << 20, 1 << 19, 256},
		{1 << 40, 1 << 19, 256},
		{-1, 0, 8},
	} {
		d := divide(c.limit)
		if d.Files != c.files || d.Connections != c.connections {
			t.Errorf("%d: %+v, want %d for files and %d for connections", c.limit, d, c.files, c.connections)
		}
		if c.limit >= 32 && d.Limit-d.Files-d.Connections < d.Limit/4 {
			t.Errorf("%d: %+v leaves too little for the rest", c.limit, d)
		}
	}
}

// TestOfIsTheHardLimit: the soft limit is raised before anything reads it.
func TestOfIsTheHardLimit(t *testing.T) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
	if d := Of(); r.Max < unlimited && d.Limit < int(r.Max)-1 { // Go leaves one
		t.Errorf("%+v, while the hard limit is %d", d, r.Max)
	}
}
