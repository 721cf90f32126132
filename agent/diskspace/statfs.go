package diskspace

import "golang.org/x/sys/unix"

// statfs asks a file system for its space.
func statfs(path string) (Space, error) {
	var s unix.Statfs_t
	for {
		switch err := unix.Statfs(path, &s); err {
		case nil:
			block := uint64(s.Bsize)
			return Space{Free: uint64(s.Bavail) * block, Size: uint64(s.Blocks) * block}, nil
		case unix.EINTR:
		default:
			return Space{}, err
		}
	}
}
