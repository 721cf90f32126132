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

// A syncer makes files of one file system durable together.
//
// A thousand consumers that flush once a second need two syncs each, of the data and of the
// checkpoint. Each sync is several writes to the disk: the data, the inode or the journal,
// and a cache flush. Files that wait at the same time are synced by one syncfs, which writes
// a block of inodes once and flushes the cache once; docs/performance.md has the figures. A
// single busy file does not wait for others: it has its own fdatasync.
type syncer struct {
	mu            sync.Mutex
	waiting       []*syncRequest
	syncingAlone  int // number of files that are synced one by one now
	syncfsRunning bool
	lastRound     int           // number of files in the last round
	lastRoundEnd  time.Time     // when the last round ended
	timer         *time.Timer   // ends the wait for further files
	usualSync     time.Duration // moving average of the time of an fdatasync
	slowRounds    int           // consecutive rounds that took too long
	aloneUntil    time.Time     // until then each file is synced alone
}

type syncRequest struct {
	f    *osFile
	done chan error
}

const (
	// minTogether is the least number of files for which one syncfs is faster than syncing
	// them one by one.
	minTogether = 4
	// maxAlone is how many files are synced one by one before others wait for each other,
	// and maxWait how long they wait.
	maxAlone = 3
	maxWait  = 3 * time.Millisecond
	// roundMemory is how long the size of a round predicts the size of the next one.
	roundMemory = time.Second
	// slowSyncfs is how long a syncfs may take in any case. A syncfs also writes what other
	// programs have left in memory. If it takes longer than fdatasync for each file, a few
	// at a time, files are synced one by one for aloneTime.
	slowSyncfs    = 150 * time.Millisecond
	fewAtATime    = 4
	maxSlowRounds = 3
	aloneTime     = 10 * time.Second
)

// sync makes the content and length of a file durable, as fdatasync does.
func (s *syncer) sync(f *osFile) error {
	s.mu.Lock()
	now := time.Now()
	if now.Before(s.aloneUntil) || len(s.waiting) == 0 && !s.syncfsRunning && s.syncingAlone < maxAlone && s.expected(now) == 0 {
		return s.syncAlone(f)
	}
	r := &syncRequest{f, make(chan error, 1)}
	s.waiting = append(s.waiting, r)
	if len(s.waiting) >= max(minTogether, s.expected(now)) {
		s.dispatch()
	}
	s.startTimer()
	s.mu.Unlock()
	return <-r.done
}

// expected returns how many files are worth waiting for; 0 if that is unknown. Consumers
// flush at the same moments, and each needs two syncs, so after a round another one of the
// same size is likely. The caller holds s.mu.
func (s *syncer) expected(now time.Time) int {
	if now.Sub(s.lastRoundEnd) > roundMemory {
		return 0
	}
	return s.lastRound * 3 / 4
}

// startTimer limits how long the waiting files wait. The caller holds s.mu.
func (s *syncer) startTimer() {
	if len(s.waiting) > 0 && !s.syncfsRunning && s.timer == nil {
		s.timer = time.AfterFunc(maxWait, s.timerFired)
	}
}

// syncAlone syncs one file with fdatasync. The caller holds s.mu, which syncAlone unlocks.
func (s *syncer) syncAlone(f *osFile) error {
	s.syncingAlone++
	s.mu.Unlock()
	start := time.Now()
	err := f.fdatasync()
	took := time.Since(start)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncingAlone--
	s.usualSync += (took - s.usualSync) / 8
	return err
}

// dispatch starts a round with the waiting files, unless one is running. Files that come
// during a round wait for the next one, because a sync covers only writes before it began. A
// few files are synced one by one. The caller holds s.mu.
func (s *syncer) dispatch() {
	if s.syncfsRunning || len(s.waiting) == 0 {
		return
	}
	batch := s.waiting
	s.waiting = nil
	if len(batch) < minTogether {
		go syncEach(batch)
		return
	}
	s.syncfsRunning = true
	go s.syncTogether(batch)
}

// timerFired ends the wait for further files.
func (s *syncer) timerFired() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	s.dispatch() // does nothing during a round, whose end dispatches them
}

// syncTogether syncs files by one syncfs. If syncfs fails, it does not say for which file,
// so each file gets an fdatasync, which returns errors that its descriptor has not reported
// yet. If syncfs succeeds, each file is checked by a call that writes nothing.
func (s *syncer) syncTogether(batch []*syncRequest) {
	start := time.Now()
	err := batch[0].f.call("syncfs", unix.Syncfs)
	took := time.Since(start)
	if err != nil {
		syncEach(batch)
	} else {
		for _, r := range batch {
			r.done <- r.f.call("sync_file_range", func(fd int) error {
				return unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WAIT_BEFORE)
			})
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncfsRunning = false
	s.recordRound(took, len(batch))
	s.lastRound, s.lastRoundEnd = len(batch), time.Now()
	if len(s.waiting) >= minTogether {
		s.dispatch()
	}
	s.startTimer()
}

// syncEach syncs files with fdatasync, concurrently.
func syncEach(batch []*syncRequest) {
	var wg sync.WaitGroup
	for _, r := range batch {
		wg.Go(func() { r.done <- r.f.fdatasync() })
	}
	wg.Wait()
}

// recordRound records how long a round of n files took, and decides whether the next files
// are synced together. The caller holds s.mu.
func (s *syncer) recordRound(d time.Duration, n int) {
	if d < slowSyncfs || s.usualSync == 0 || d < s.usualSync*time.Duration(n)/fewAtATime {
		s.slowRounds = 0
		return
	}
	if s.slowRounds++; s.slowRounds >= maxSlowRounds {
		s.slowRounds, s.aloneUntil = 0, time.Now().Add(aloneTime)
	}
}

// syncers holds one syncer per device. One that was unmounted leaves a small syncer.
var syncers struct {
	sync.Mutex
	byDevice map[uint64]*syncer
}

// syncerOf returns the syncer of a file's file system; nil if its files have to be synced
// one by one.
func syncerOf(f *osFile) *syncer {
	var st unix.Stat_t
	var fs unix.Statfs_t
	err := f.call("fstat", func(fd int) error { return errors.Join(unix.Fstat(fd, &st), unix.Fstatfs(fd, &fs)) })
	if err != nil || !durableSyncfs(int64(fs.Type)) || !syncfsReportsErrors() {
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

// durableSyncfs reports whether syncfs makes data as durable as fsync does. For network and
// stacked file systems this is unknown.
func durableSyncfs(kind int64) bool {
	return kind == unix.EXT4_SUPER_MAGIC || kind == unix.XFS_SUPER_MAGIC || kind == unix.BTRFS_SUPER_MAGIC
}

// syncfsReportsErrors reports whether syncfs returns write errors, as it does since Linux
// 5.8.
var syncfsReportsErrors = sync.OnceValue(func() bool {
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

// datasync makes the file durable, together with other files that wait for a sync.
func (f *osFile) datasync() error {
	f.once.Do(func() { f.syncer = syncerOf(f) })
	if f.syncer == nil {
		return f.fdatasync()
	}
	return f.syncer.sync(f)
}

func (f *osFile) fdatasync() error { return f.call("fdatasync", syscall.Fdatasync) }
