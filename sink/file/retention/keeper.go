// Package retention completes and removes the files of a file sink that receive no more
// records: complete files that are too many or too old, and growing files whose partitions are
// not assigned to this agent any more.
//
// Start reading at [Keeper].
package retention

import (
	"log/slog"
	"sync"
	"time"

	"kcagent/sink"
	"kcagent/sink/file/disk"
)

// Files are the growing files of a sink, as the keeper sees them. The methods are called
// from one goroutine, without a lock.
type Files interface {
	// Rules returns the rotation in force; nil if the keeper has nothing to do.
	Rules() *sink.Rotate
	// Serves reports whether a partition of the path is assigned.
	Serves(path string) bool
	// CompleteDue completes the growing files that the clock ends. False says that it
	// failed for one.
	CompleteDue() bool
	// CompleteUnassigned completes the growing file of a path of which no partition is
	// assigned. False says that it is to be tried again later.
	CompleteUnassigned(path string) bool
}

// A Keeper looks after the files of a sink with rotate that get no more records:
// it removes complete ones that are too many or too old, and completes growing ones
// whose partitions are not assigned to this agent any more. It works in a goroutine
// that a timer starts, beside the records.
//
// The folders are listed within a minute after the sink was opened, and seldom again.
// From then on the keeper knows from the writers which files there are: a folder may
// hold a hundred thousand.
type Keeper struct {
	files    Files
	log      *slog.Logger
	fs       disk.FS
	now      func() time.Time
	path     string // with placeholders
	consumer string
	group    string

	mu           sync.Mutex
	complete     map[string][]completeFile // by path, the oldest first
	unassigned   map[string]time.Time      // growing files of partitions that are not assigned, and since when
	assigned     map[string]bool           // paths of which a partition is, and whose files are open
	renamed      map[string][]completeFile // like paths, but left by a consumer of another name: a renamed one
	scanned      bool
	scanAt       time.Time // when the folders are listed, if scanned is not set
	lastScan     time.Time
	retryAt      time.Time // before it nothing is removed or completed that is not assigned, as it failed
	dueAt        time.Time // when growing files are completed that no flush has; zero if none is due
	everAssigned bool      // a partition was assigned since the sink was opened
	timer        *time.Timer
	running      bool
	runAgain     bool // there is more to do when running ends
	finished     sync.WaitGroup
	stopped      bool
}

type completeFile struct {
	path string
	at   time.Time
}

const (
	// MaxTimer is how long a timer runs at most: timers do not follow a clock that is set.
	MaxTimer = time.Minute
	// ScanWithin is when the folders are listed after the start, at the latest. A
	// thousand consumers spread over it.
	ScanWithin = 40 * time.Second
	// RescanEvery is how often the folders are listed again at most, after partitions
	// were assigned: another agent may have completed files of theirs.
	RescanEvery = 10 * time.Minute
	// DueGrace is how long the keeper leaves a file that is due to a flush: it does the
	// same, and reports errors to the caller. While the group has no generation, there
	// is none.
	DueGrace = 5 * time.Second
	// UnassignedGrace is how long a partition may be away until its file is completed, if
	// no clock says when: after a rebalance it often comes back.
	UnassignedGrace = time.Minute
)

func New(o sink.Options, fsys disk.FS, path string, files Files) *Keeper {
	k := &Keeper{
		files: files, log: o.Log, fs: fsys, now: o.Now, path: path, consumer: o.Consumer, group: o.Group,
		complete: make(map[string][]completeFile), unassigned: make(map[string]time.Time),
		assigned: make(map[string]bool), renamed: make(map[string][]completeFile),
	}
	k.scanAt = k.now().Add(hashDelay(k.path, ScanWithin))
	return k
}

// hashDelay is a part of d that depends on the text alone.
func hashDelay(text string, d time.Duration) time.Duration {
	sum := uint64(14695981039346656037)
	for i := range len(text) {
		sum = (sum ^ uint64(text[i])) * 1099511628211
	}
	return time.Duration(sum % uint64(d))
}

// DeadlinePassed records that the clock may have made a growing file due.
func (k *Keeper) DeadlinePassed() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dueAt = k.now().Add(DueGrace)
	k.reschedule()
}

// Reschedule has the keeper look what there is to do now.
func (k *Keeper) Reschedule() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reschedule()
}

// AddComplete records a new complete file.
func (k *Keeper) AddComplete(path, final string, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.complete[path] = append(k.complete[path], completeFile{final, at})
	k.reschedule()
}

// Released records that partitions are not assigned any more.
func (k *Keeper) Released(paths []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range paths {
		k.unassigned[p] = k.now()
		delete(k.assigned, p)
	}
	k.reschedule()
}

// Resumed records that a partition of the path is assigned, and its file locked: the
// files that a consumer of another name left there are now this one's.
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

// reschedule starts the timer for what is due next. It is called with k.mu.
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

// next is when something is due.
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

// passed reports whether a time has come. One that was never to be farther away than
// within has, too: the clock was set back.
func passed(at, now time.Time, within time.Duration) bool {
	return !now.Before(at) || at.Sub(now) > within
}

// RunOnce does what is due. The timer calls it. It returns false if that is being done
// already.
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

// Stop ends the keeper; end has it complete all growing files first.
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

// takeExpired takes the complete files from the lists that are more than keep or older
// than keep_for.
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

// removeFiles removes files. A failure is no reason to stop: it is logged, and tried again
// later.
func (k *Keeper) removeFiles(old map[string][]completeFile) {
	for path, files := range old {
		var left []completeFile
		for _, f := range files {
			err := k.fs.Remove(f.path)
			switch {
			case err == nil:
				k.log.Info("old file removed", "path", f.path)
			case !disk.IsNotExist(err):
				k.log.Warn("removing an old file failed", "path", f.path, "error", err)
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
