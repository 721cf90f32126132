package diskspace

import "golang.org/x/sys/unix"

// statfs returns the space of the file system of path. It blocks if that does not respond.
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
