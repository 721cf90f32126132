// Package spool is the folder in which objects grow before they are uploaded.
//
// Each agent process has a folder of its own below the configured one, and a lock in it. Open
// removes the folders of processes that have ended, because their records are read from Kafka
// again. The files have numbers as names, so that nothing that varies becomes part of a path.
//
// The content of the spool may get lost at any time: nothing is synced. A [File] then returns an
// error that wraps [sink.ErrReopen].
package spool

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"kcagent/sink/file/disk"
	"kcagent/sink/sinkio"
)

const (
	folderPrefix = "kcagent-spool-" // of the folder of a process
	rootLock     = "kcagent-spool.lock"
	processLock  = "lock"
	// lockTimeout is how long Open waits for another process that opens or removes folders.
	lockTimeout = 10 * time.Second
)

// A Folder is the folder of this process below a configured one. Sinks with the same spool share
// it. Its methods are safe for concurrent use.
type Folder struct {
	root, path string
	lock       disk.File
	fsys       disk.FS // of the files; replaced by tests
	number     *atomic.Int64

	users int // guarded by openMu
}

// The folders of this process, by their configured one.
var (
	openMu  sync.Mutex
	folders = make(map[string]*Folder)
)

// Open returns the folder of this process below root, and creates both. It removes the folders of
// processes that have ended. The caller closes it.
func Open(ctx context.Context, root string) (*Folder, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open spool %s: %w", root, err)
	}
	openMu.Lock()
	defer openMu.Unlock()
	f := folders[root]
	if f == nil {
		if f, err = create(ctx, root); err != nil {
			return nil, err
		}
		folders[root] = f
	}
	f.users++
	return f, nil
}

// On returns the folder with its files on another file system. It is for tests.
func (f *Folder) On(fsys disk.FS) *Folder {
	return &Folder{root: f.root, path: f.path, fsys: fsys, number: f.number}
}

// Close removes the folder of this process after the last user has closed it.
func (f *Folder) Close() error {
	openMu.Lock()
	defer openMu.Unlock()
	if f.users--; f.users > 0 {
		return nil
	}
	delete(folders, f.root)
	return errors.Join(os.RemoveAll(f.path), f.lock.Close())
}

// create creates the folder of this process.
func create(ctx context.Context, root string) (*Folder, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, sinkio.OpError("create spool", root, err)
	}
	if err := checkOwner(root, os.Getuid()); err != nil {
		return nil, err
	}
	// A process that holds the lock of the root creates its folder with the lock inside, so a
	// folder without a lock belongs to no process that lives.
	unlock, err := lockRoot(ctx, root)
	if err != nil {
		return nil, err
	}
	defer unlock()
	removeLeftovers(root)
	f := &Folder{root: root, path: filepath.Join(root, fmt.Sprintf("%s%d-%s", folderPrefix, os.Getpid(), rand.Text())), fsys: disk.OS{}, number: new(atomic.Int64)}
	if err := os.Mkdir(f.path, 0o700); err != nil {
		return nil, sinkio.OpError("create spool", f.path, err)
	}
	if f.lock, err = lockFile(filepath.Join(f.path, processLock), os.O_CREATE); err != nil {
		return nil, errors.Join(err, os.RemoveAll(f.path))
	}
	return f, nil
}

// checkOwner rejects a folder of another user in a folder such as /tmp, in which every user can create
// files: its owner could read and replace the records in it.
func checkOwner(root string, uid int) error {
	parent, err := os.Stat(filepath.Dir(root))
	if err != nil {
		return sinkio.OpError("open spool", root, err)
	}
	if parent.Mode()&fs.ModeSticky == 0 || parent.Mode().Perm()&0o002 == 0 {
		return nil
	}
	info, err := os.Lstat(root) // a symbolic link has an owner, too
	if err != nil {
		return sinkio.OpError("open spool", root, err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != uid {
		return fmt.Errorf("open spool %s: it belongs to another user (uid %d), who could change the records; set sink.objects.spool to a folder of this user", root, stat.Uid)
	}
	return nil
}

// lockRoot locks root against processes that open it at the same time.
func lockRoot(ctx context.Context, root string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	for {
		lock, err := lockFile(filepath.Join(root, rootLock), os.O_CREATE)
		if err == nil {
			return func() { _ = lock.Close() }, nil
		}
		if !errors.Is(err, disk.ErrLocked) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock spool %s: another agent has held the lock for %s", root, lockTimeout)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// lockFile opens and locks a file.
func lockFile(path string, flag int) (disk.File, error) {
	file, err := disk.OS{}.OpenFile(path, os.O_RDWR|flag, 0o600)
	if err != nil {
		return nil, sinkio.OpError("open", path, err)
	}
	if err := file.Lock(); err != nil {
		_ = file.Close()
		if errors.Is(err, errors.ErrUnsupported) {
			return nil, fmt.Errorf("%w; set sink.objects.spool to a folder on a local disk", sinkio.OpError("lock", path, err))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return file, nil
}

// removeLeftovers removes the folders of processes that have ended. What cannot be removed
// remains for the next Open. The caller holds the lock of the root.
func removeLeftovers(root string) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), folderPrefix) {
			continue
		}
		path := filepath.Join(root, e.Name())
		lock, err := lockFile(filepath.Join(path, processLock), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		_ = os.RemoveAll(path)
		if lock != nil {
			_ = lock.Close()
		}
	}
}
