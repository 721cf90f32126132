package sink

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func datasync(fd int) error { return syscall.Fdatasync(fd) }

func reserve(fd int, size, n int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, size, n)
}

func born(fd int) (int64, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st)
	if err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return 0, err
	}
	return st.Btime.Sec*1e9 + int64(st.Btime.Nsec), nil
}
