package disk

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func reserve(fd int, size, n int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, size, n)
}

func birthTime(fd int) (int64, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st)
	if err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return 0, err
	}
	return st.Btime.Sec*1e9 + int64(st.Btime.Nsec), nil
}

// Virtual reports whether a path is on a file system of the kernel, such as /proc, which does not
// allow new files. Its access rights do not show that to root.
func Virtual(path string) bool {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return false
	}
	switch uint32(s.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC,
		unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.SELINUX_MAGIC, unix.DEVPTS_SUPER_MAGIC, unix.BPF_FS_MAGIC, unix.NSFS_MAGIC:
		return true
	}
	return false
}

func renameNoReplace(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// listFolder lists a folder without a stat of each entry. os.ReadDir needs one for the
// inode, which takes a second for 100,000 entries.
func listFolder(dir string, each func(name string, inode uint64) bool) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.ReadDirent(int(d.Fd()), buf)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			if err != nil {
				err = &fs.PathError{Op: "list", Path: dir, Err: err}
			}
			return err
		}
		for entries := buf[:n]; len(entries) >= direntName; {
			inode := binary.NativeEndian.Uint64(entries)
			size := int(binary.NativeEndian.Uint16(entries[direntSize:]))
			name := unix.ByteSliceToString(entries[direntName:size])
			entries = entries[size:]
			if name != "." && name != ".." && !each(name, inode) {
				return nil
			}
		}
	}
}

// direntSize and direntName are offsets in a struct linux_dirent64: inode, offset, size of
// the entry, type, name.
const (
	direntSize = 16
	direntName = 19
)
