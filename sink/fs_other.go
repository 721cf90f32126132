//go:build !linux

package sink

import (
	"errors"
	"syscall"
)

func datasync(fd int) error { return syscall.Fsync(fd) }

func reserve(int, int64, int64) error { return errors.ErrUnsupported }

func born(int) (int64, error) { return 0, errors.ErrUnsupported }
