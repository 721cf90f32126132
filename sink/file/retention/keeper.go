// Package retention completes and removes the files of a file sink that receive no more
// records: it removes complete files that are too many or too old, and completes growing
// files whose partitions are not assigned to this agent any more.
//
// Start reading at [Keeper].
package retention

import (
	"log/slog"
	"sync"
	"time"

	"kcagent/logkey"
	"kcagent/sink"
	"kcagent/sink/file/disk"
)

// Files are the growing files of a sink. The keeper calls the methods from one goroutine,
// and holds no lock.
type Files interface {
	// Rules returns the rotation in force; nil if the keeper has nothing to do.
	Rules() *sink.Rotate
	// Serves reports whether a partition of the path is assigned.
	Serves(path string) bool
	// CompleteDue completes the growing files whose period has ended. It returns false if
	// one failed.
	CompleteDue() bool
	// CompleteUnassigned completes the growing file of a path that no assigned partition
	// uses. It returns false if it is to be tried again later.
	CompleteUnassigned(path string) bool
}

// A Keeper completes and removes the files of one sink with rotate that receive no more
// records. It works in a goroutine of its own, which a timer starts.
//
// The Keeper lists the folders within a minute after the sink was opened, and rarely again.
// From then on the writers report new files: a folder may hold 100,000 of them.
type Keeper struct {
	files    Files
	log      *slog.Logger
	fs       disk.FS
	now      func() time.Time
	path     string // with placeholders
	consumer string
	group    string

	mu           sync.Mutex
	complete     map[string][]completeFile // complete files by path, the oldest first
	unassigned   map[string]time.Time      // growing files of partitions that are not assigned, and since when
	assigned     map[string]bool           // paths of assigned partitions, whose files are open
	renamed      map[string][]completeFile // like complete, but of a consumer with another name, which was renamed
	scanned      bool
	scanAt       time.Time // when the folders are listed, if scanned is not set
	lastScan     time.Time
	retryAt      time.Time // after a failure: nothing is removed, and no unassigned file completed, before this time
	dueAt        time.Time // when due files are completed that no flush has completed; zero if none is due
	everAssigned bool      // a partition was assigned since the sink was opened
	timer        *time.Timer
	running      bool
	runAgain     bool // something was changed while run was running
	finished     sync.WaitGroup
	stopped      bool
}

type completeFile struct {
	path string
	at   time.Time
}

const (
	// MaxTimer is how long a timer runs at most, because timers ignore changes of the clock.
	MaxTimer = time.Minute
	// ScanWithin is how soon after the start the folders are listed. The lists of a thousand
	// consumers are spread over this time.
	ScanWithin = 40 * time.Second
	// RescanEvery is the least time between two lists of the folders. They are listed again
	// after partitions were assigned, because another agent may have completed files of
	// these partitions.
	RescanEvery = 10 * time.Minute
	// DueGrace is how long the keeper leaves a due file to a flush, which completes it too
	// and reports errors to the caller. While the group has no generation, no flush comes.
	DueGrace = 5 * time.Second
	// UnassignedGrace is how long the keeper waits before it completes the file of an
	// unassigned partition, if rotate has no period. After a rebalance, the partition often
	// comes back.
	UnassignedGrace = time.Minute
)

// New returns the Keeper of a sink with the given path. The log and the clock in o are set.
func New(o sink.Options, fsys disk.FS, path string, files Files) *Keeper {
	k := &Keeper{
		files: files, log: o.Log, fs: fsys, now: o.Now, path: path, consumer: o.Consumer, group: o.Group,
		complete: make(map[string][]completeFile), unassigned: make(map[string]time.Time),
		assigned: make(map[string]bool), renamed: make(map[string][]completeFile),
	}
	k.scanAt = k.now().Add(hashDelay(k.path, ScanWithin))
	return k
}

// hashDelay returns a part of d that depends on the text only.
func hashDelay(text string, d time.Duration) time.Duration {
	sum := uint64(14695981039346656037)
	for i := range len(text) {
		sum = (sum ^ uint64(text[i])) * 1099511628211
	}
	return time.Duration(sum % uint64(d))
}

// DeadlinePassed records that the period of a growing file may have ended.
func (k *Keeper) DeadlinePassed() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dueAt = k.now().Add(DueGrace)
	k.reschedule()
}

// Reschedule starts the timer again, after rules or files have changed.
func (k *Keeper) Reschedule() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reschedule()
}

// AddComplete records a new complete file of a path.
func (k *Keeper) AddComplete(path, final string, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.complete[path] = append(k.complete[path], completeFile{final, at})
	k.reschedule()
}

// Released records that no partition of the paths is assigned any more.
func (k *Keeper) Released(paths []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range paths {
		k.unassigned[p] = k.now()
		delete(k.assigned, p)
	}
	k.reschedule()
}

// Resumed records that a partition of the path is assigned and its file locked. Files that a
// consumer of another name left there now belong to this consumer.
func (k *Keeper) Resumed(path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.unassigned, path)
	if k.assigned[path] {
		return
	}
	k.assigned[path] = true
	if k.scanned {
		k.scanned = false
		k.scanAt = k.lastScan.Add(RescanEvery)
	}
	if files := k.renamed[path]; files != nil {
		k.complete[path] = mergeComplete(files, k.complete[path])
		delete(k.renamed, path)
	}
	if !k.everAssigned {
		k.everAssigned = true
		for p := range k.unassigned {
			k.unassigned[p] = k.now()
		}
	}
	k.reschedule()
}

// reschedule starts the timer for what is due next. The caller holds k.mu.
func (k *Keeper) reschedule() {
	if k.running {
		k.runAgain = true
		return
	}
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
	r := k.files.Rules()
	if k.stopped || r == nil {
		return
	}
	now := k.now()
	next := k.next(r, now)
	if next.IsZero() {
		return
	}
	k.timer = time.AfterFunc(min(max(0, next.Sub(now)), MaxTimer), func() { k.RunOnce() })
}

// next returns when something is due; zero if nothing is.
func (k *Keeper) next(r *sink.Rotate, now time.Time) (next time.Time) {
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if !k.scanned {
		sooner(k.scanAt)
	}
	if !k.dueAt.IsZero() {
		sooner(k.dueAt)
	}
	retry := func(t time.Time) { // what failed is not tried again at once
		if t.Before(k.retryAt) {
			t = k.retryAt
		}
		sooner(t)
	}
	for _, since := range k.unassigned {
		if due := k.unassignedDue(r, since, now); !due.IsZero() {
			retry(due)
		}
	}
	for _, files := range k.complete {
		switch {
		case r.Keep > 0 && len(files) > r.Keep:
			retry(now)
		case r.KeepFor > 0 && len(files) > 0:
			retry(files[0].at.Add(r.KeepFor))
		}
	}
	return next
}

// passed reports whether a time has come. It also reports true if the time is farther away
// than it can have been set: then the clock was set back.
func passed(at, now time.Time, within time.Duration) bool {
	return !now.Before(at) || at.Sub(now) > within
}

// RunOnce does what is due. It returns false if another goroutine is doing so.
func (k *Keeper) RunOnce() bool {
	k.mu.Lock()
	if k.stopped || k.running {
		k.mu.Unlock()
		return false
	}
	k.running = true
	k.finished.Add(1)
	k.mu.Unlock()
	k.run(false)
	k.mu.Lock()
	k.running, k.runAgain = false, false
	k.reschedule()
	k.mu.Unlock()
	k.finished.Done()
	return true
}

// Stop stops the keeper. If end is set, it then completes all growing files.
func (k *Keeper) Stop(end bool) {
	k.mu.Lock()
	k.stopped = true
	if k.timer != nil {
		k.timer.Stop()
	}
	k.mu.Unlock()
	k.finished.Wait()
	if end && k.files.Rules() != nil {
		k.run(true)
	}
}

func (k *Keeper) run(end bool) {
	r, now := k.files.Rules(), k.now()
	if r == nil {
		return
	}
	k.mu.Lock()
	scan := !k.scanned && (end || passed(k.scanAt, now, RescanEvery))
	due := !k.dueAt.IsZero() && passed(k.dueAt, now, MaxTimer)
	if due {
		k.dueAt = time.Time{}
	}
	k.mu.Unlock()
	if scan {
		k.scan()
	}
	if due {
		k.CompleteDue()
	}
	for _, path := range k.dueUnassigned(r, now, end) {
		k.completeUnassigned(path)
	}
	k.removeFiles(k.takeExpired(r, now))
}

// takeExpired removes from the lists, and returns, the complete files that exceed keep or
// are older than keep_for.
func (k *Keeper) takeExpired(r *sink.Rotate, now time.Time) map[string][]completeFile {
	k.mu.Lock()
	defer k.mu.Unlock()
	old := make(map[string][]completeFile)
	if !passed(k.retryAt, now, MaxTimer) {
		return old
	}
	for path, files := range k.complete {
		n := 0
		if r.Keep > 0 {
			n = max(0, len(files)-r.Keep)
		}
		for r.KeepFor > 0 && n < len(files) && now.Sub(files[n].at) >= r.KeepFor {
			n++
		}
		if n > 0 {
			old[path], k.complete[path] = files[:n:n], files[n:]
		}
	}
	return old
}

// removeFiles removes files. It logs a failure, and the file is removed later.
func (k *Keeper) removeFiles(old map[string][]completeFile) {
	for path, files := range old {
		var left []completeFile
		for _, f := range files {
			err := k.fs.Remove(f.path)
			switch {
			case err == nil:
				k.log.Info("old file removed", logkey.Path, f.path)
			case !disk.IsNotExist(err):
				k.log.Warn("removing an old file failed", logkey.Path, f.path, logkey.Error, err)
				left = append(left, f)
			}
		}
		if len(left) > 0 {
			k.mu.Lock()
			k.complete[path] = mergeComplete(left, k.complete[path])
			k.retryAt = k.now().Add(MaxTimer)
			k.mu.Unlock()
		}
	}
}
