//go:build !linux

package sink

import "syscall"

func datasync(fd int) error { return syscall.Fsync(fd) }
