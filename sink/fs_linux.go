package sink

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func datasync(fd int) error { return syscall.Fdatasync(fd) }

func reserve(fd int, size, n int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, size, n)
}
