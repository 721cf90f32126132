package sink

import (
	"context"
	"errors"
	"path/filepath"
	"time"
)

// orphanDue is when the growing file of a partition that went away is completed. If
// no clock says when, it is never before the agent has been assigned partitions: they
// may be the same.
func (k *keeper) orphanDue(r *Rotate, since, now time.Time) time.Time {
	switch {
	case r.Every > 0 && !within(since, now, r.Every):
		return now // also if the clock was set back behind the beginning of the period
	case r.Every > 0:
		return since.UTC().Truncate(r.Every).Add(r.Every)
	case k.resumes:
		return since.Add(orphanGrace)
	}
	return time.Time{}
}

// completeDue completes growing files of assigned partitions that the clock ends.
func (k *keeper) completeDue() {
	for _, w := range k.sink.writers() {
		if err := w.alone(context.Background(), w.completeIfDue); err != nil {
			k.sink.log.Warn("completing a file failed", "path", w.path, "error", err)
			k.mu.Lock()
			k.dueAt = k.sink.now().Add(recheck)
			k.mu.Unlock()
		}
	}
	k.sink.alarm.reset(k.sink.deadline())
}

func (k *keeper) dueOrphans(r *Rotate, now time.Time, end bool) (paths []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for path, since := range k.orphans {
		due := k.orphanDue(r, since, now)
		if end || !due.IsZero() && passed(due, now, orphanGrace+r.Every) && passed(k.retryAt, now, recheck) {
			paths = append(paths, path)
		}
	}
	return paths
}

// completeUnassigned completes the growing file of partitions that are not assigned. If
// another agent has it, or one was assigned meanwhile, it is left alone.
func (k *keeper) completeUnassigned(path string) {
	err := k.sink.completeOrphan(path)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err == nil, errors.Is(err, ErrLocked): // another agent has it
		delete(k.orphans, path)
		return
	case !errors.Is(err, errDescriptors):
		k.sink.log.Warn("completing the file of a partition that is not assigned failed", "path", path, "error", err)
	}
	k.retryAt = k.sink.now().Add(recheck)
}

// completeOrphan completes the file of a path of which no partition is assigned.
func (s *fileSink) completeOrphan(path string) error {
	w := s.writerOf(path)
	return w.alone(context.Background(), func() error {
		if len(w.seen) > 0 || !s.knows(w) { // assigned, or it was a moment ago
			return nil
		}
		err := w.open()
		if err == nil && w.current != nil && w.last != nil && w.last.Consumer == s.consumer && w.last.Group == s.group {
			if w.current.length > 0 {
				err = w.complete()
			}
			if err == nil && s.durable() {
				err = s.fs.SyncDir(filepath.Dir(path))
			}
		}
		if w == s.only { // its lock is kept between generations
			return err
		}
		defer s.forget(w)
		return errors.Join(err, w.close())
	})
}
