package sink

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A syncer makes files of one file system durable together. A thousand consumers that
// flush once a second need two syncs each, of the data and of the checkpoint, and each
// sync is several writes to the disk: the data, the inode or the journal, and a cache
// flush. Those that wait at the same time are served by one syncfs, which writes a block
// of inodes once and flushes the cache once (docs/performance.md has the figures). A
// single busy file does not wait for others: it has its own fdatasync.
type syncer struct {
	mu       sync.Mutex
	waiting  []*syncRequest
	singles  int // files that are synced by themselves now
	together bool
	timer    *time.Timer   // ends the wait for others
	usual    time.Duration // what a file that is synced by itself takes of late
	slow     int           // syncfs calls in a row that took too long
	alone    time.Time     // until then each file is synced by itself
}

type syncRequest struct {
	f    *osFile
	done chan error
}

const (
	// fewFiles are synced one by one: syncfs pays from about this many on.
	fewFiles = 4
	// maxSingles is how many files are synced one by one before others wait for
	// company, and gatherTime for how long they do.
	maxSingles = 3
	gatherTime = 3 * time.Millisecond
	// longSync is how long a syncfs may take in any case. It writes what other programs
	// have left in memory, too. If it takes longer than the files would one by one, a few
	// at a time, they are synced like that for a while.
	longSync   = 150 * time.Millisecond
	fewAtATime = 4
	aloneTime  = time.Minute
)

// sync makes a file's content and length durable, as fdatasync does.
func (s *syncer) sync(f *osFile) error {
	s.mu.Lock()
	if len(s.waiting) == 0 && !s.together && s.singles < maxSingles || time.Now().Before(s.alone) {
		return s.single(f)
	}
	r := &syncRequest{f, make(chan error, 1)}
	s.waiting = append(s.waiting, r)
	if !s.dispatch() && s.timer == nil {
		s.timer = time.AfterFunc(gatherTime, s.giveUp)
	}
	s.mu.Unlock()
	return <-r.done
}

// single syncs one file by itself. It is called with s.mu, which it releases.
func (s *syncer) single(f *osFile) error {
	s.singles++
	s.mu.Unlock()
	began := time.Now()
	err := f.fdatasync()
	took := time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.singles--
	s.usual += (took - s.usual) / 8
	s.dispatch()
	return err
}

// dispatch begins a round if there are enough files for one, and none is under way:
// those that come meanwhile wait for the next, for only a sync that begins after a
// write covers it. It is called with s.mu.
func (s *syncer) dispatch() bool {
	if s.together || len(s.waiting) < fewFiles {
		return s.together
	}
	batch := s.waiting
	s.waiting, s.together = nil, true
	go s.round(batch)
	return true
}

// giveUp syncs the files for which no company came.
func (s *syncer) giveUp() {
	s.mu.Lock()
	s.timer = nil
	if s.together { // its end serves them
		s.mu.Unlock()
		return
	}
	batch := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	each(batch)
}

// round syncs files by one call. syncfs reports that something on the file system
// could not be written, not what: then each file is asked by fdatasync, which reports
// errors that its descriptor has not seen yet. If syncfs succeeds, the files are asked
// all the same, by a call that writes nothing.
func (s *syncer) round(batch []*syncRequest) {
	began := time.Now()
	err := batch[0].f.call("syncfs", unix.Syncfs)
	took := time.Since(began)
	if err != nil {
		each(batch)
	} else {
		for _, r := range batch {
			r.done <- r.f.call("sync_file_range", func(fd int) error {
				return unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WAIT_BEFORE)
			})
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.together = false
	s.took(took, len(batch))
	if !s.dispatch() && len(s.waiting) > 0 && s.timer == nil {
		s.timer = time.AfterFunc(gatherTime, s.giveUp)
	}
}

// each syncs files one by one, side by side.
func each(batch []*syncRequest) {
	var wg sync.WaitGroup
	for _, r := range batch {
		wg.Go(func() { r.done <- r.f.fdatasync() })
	}
	wg.Wait()
}

// took takes in how long a round of n files took, and decides whether the next are
// synced together. It is called with s.mu.
func (s *syncer) took(d time.Duration, n int) {
	if d < longSync || d < s.usual*time.Duration(n)/fewAtATime {
		s.slow = 0
		return
	}
	if s.slow++; s.slow >= 2 {
		s.slow, s.alone = 0, time.Now().Add(aloneTime)
	}
}

// syncers are by device. A file system that was unmounted leaves a small one behind.
var syncers struct {
	sync.Mutex
	byDevice map[uint64]*syncer
}

// syncerOf returns the syncer of a file's file system; nil if its files have to be
// synced one by one.
func syncerOf(f *osFile) *syncer {
	var st unix.Stat_t
	var fs unix.Statfs_t
	err := f.call("fstat", func(fd int) error { return errors.Join(unix.Fstat(fd, &st), unix.Fstatfs(fd, &fs)) })
	if err != nil || !barriers(int64(fs.Type)) || !kernelReports() {
		return nil
	}
	syncers.Lock()
	defer syncers.Unlock()
	if syncers.byDevice == nil {
		syncers.byDevice = make(map[uint64]*syncer)
	}
	s := syncers.byDevice[st.Dev]
	if s == nil {
		s = new(syncer)
		syncers.byDevice[st.Dev] = s
	}
	return s
}

// barriers reports file systems whose syncfs makes data as durable as fsync does. Of
// network and stacked ones that is not known.
func barriers(kind int64) bool {
	return kind == unix.EXT4_SUPER_MAGIC || kind == unix.XFS_SUPER_MAGIC || kind == unix.BTRFS_SUPER_MAGIC
}

// kernelReports reports whether syncfs returns errors of writes: since Linux 5.8.
var kernelReports = sync.OnceValue(func() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	release := strings.SplitN(unix.ByteSliceToString(u.Release[:]), ".", 3)
	if len(release) < 3 {
		return false
	}
	major, err1 := strconv.Atoi(release[0])
	minor, err2 := strconv.Atoi(release[1])
	return err1 == nil && err2 == nil && (major > 5 || major == 5 && minor >= 8)
})

// datasync makes the file durable, together with others that wait for the same.
func (f *osFile) datasync() error {
	f.once.Do(func() { f.syncer = syncerOf(f) })
	if f.syncer == nil {
		return f.fdatasync()
	}
	return f.syncer.sync(f)
}

func (f *osFile) fdatasync() error { return f.call("fdatasync", syscall.Fdatasync) }
