package disk

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
// flush. Files that wait at the same time are synced by one syncfs, which writes a block
// of inodes once and flushes the cache once (docs/performance.md has the figures). A
// single busy file does not wait for others: it has its own fdatasync.
type syncer struct {
	mu       sync.Mutex
	waiting  []*syncRequest
	singles  int // files that are synced by themselves now
	together bool
	last     int           // how many files the last round had
	lastAt   time.Time     // when that ended
	timer    *time.Timer   // ends the wait for others
	usual    time.Duration // what a file that is synced by itself takes of late
	slow     int           // rounds in a row that took too long
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
	// rhythm is how long the size of a round tells that of the next one.
	rhythm = time.Second
	// longSync is how long a syncfs may take in any case. It writes what other programs
	// have left in memory, too. If it takes longer than the files would one by one, a few
	// at a time, they are synced like that for a while.
	longSync   = 150 * time.Millisecond
	fewAtATime = 4
	slowRounds = 3
	aloneTime  = 10 * time.Second
)

// sync makes a file's content and length durable, as fdatasync does.
func (s *syncer) sync(f *osFile) error {
	s.mu.Lock()
	now := time.Now()
	if now.Before(s.alone) || len(s.waiting) == 0 && !s.together && s.singles < maxSingles && s.expected(now) == 0 {
		return s.single(f)
	}
	r := &syncRequest{f, make(chan error, 1)}
	s.waiting = append(s.waiting, r)
	if len(s.waiting) >= max(fewFiles, s.expected(now)) {
		s.dispatch()
	}
	s.gather()
	s.mu.Unlock()
	return <-r.done
}

// expected is how many files are worth a wait: consumers flush at the same moments, and
// each needs two syncs, so after a round there is likely to be one of the same size. It
// is 0 if nothing is known. It is called with s.mu.
func (s *syncer) expected(now time.Time) int {
	if now.Sub(s.lastAt) > rhythm {
		return 0
	}
	return s.last * 3 / 4
}

// gather limits how long the files that wait do so. It is called with s.mu.
func (s *syncer) gather() {
	if len(s.waiting) > 0 && !s.together && s.timer == nil {
		s.timer = time.AfterFunc(gatherTime, s.gathered)
	}
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
	return err
}

// dispatch begins a round with the files that wait, if none is under way: those that come
// meanwhile wait for the next, for only a sync that begins after a write covers it. Few
// files are synced one by one. It is called with s.mu.
func (s *syncer) dispatch() {
	if s.together || len(s.waiting) == 0 {
		return
	}
	batch := s.waiting
	s.waiting = nil
	if len(batch) < fewFiles {
		go each(batch)
		return
	}
	s.together = true
	go s.round(batch)
}

// gathered ends the wait for others.
func (s *syncer) gathered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	s.dispatch() // during a round its end serves them
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
	s.last, s.lastAt = len(batch), time.Now()
	if len(s.waiting) >= fewFiles {
		s.dispatch()
	}
	s.gather()
}

// each syncs files one by one, side by side.
func each(batch []*syncRequest) {
	var wg sync.WaitGroup
	for _, r := range batch {
		wg.Go(func() { r.done <- r.f.fdatasync() })
	}
	wg.Wait()
}

// took records how long a round of n files took, and decides whether the next are
// synced together. It is called with s.mu.
func (s *syncer) took(d time.Duration, n int) {
	if d < longSync || s.usual == 0 || d < s.usual*time.Duration(n)/fewAtATime {
		s.slow = 0
		return
	}
	if s.slow++; s.slow >= slowRounds {
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
