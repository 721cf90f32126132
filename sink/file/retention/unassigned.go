package retention

import (
	"time"

	"kcagent/sink"
)

// unassignedDue is when the growing file of a partition that went away is completed. If
// no clock says when, it is never before the agent has been assigned partitions: they
// may be the same.
func (k *Keeper) unassignedDue(r *sink.Rotate, since, now time.Time) time.Time {
	switch {
	case r.Every > 0 && !r.InPeriod(since, now):
		return now // also if the clock was set back behind the beginning of the period
	case r.Every > 0:
		return r.PeriodEnd(since)
	case k.everAssigned:
		return since.Add(UnassignedGrace)
	}
	return time.Time{}
}

// CompleteDue completes growing files of assigned partitions that the clock ends.
func (k *Keeper) CompleteDue() {
	if k.files.CompleteDue() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dueAt = k.now().Add(MaxTimer)
}

func (k *Keeper) dueUnassigned(r *sink.Rotate, now time.Time, end bool) (paths []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for path, since := range k.unassigned {
		due := k.unassignedDue(r, since, now)
		if end || !due.IsZero() && passed(due, now, UnassignedGrace+r.Every) && passed(k.retryAt, now, MaxTimer) {
			paths = append(paths, path)
		}
	}
	return paths
}

// completeUnassigned completes the growing file of partitions that are not assigned. If
// another agent has it, or one was assigned meanwhile, it is left alone.
func (k *Keeper) completeUnassigned(path string) {
	done := k.files.CompleteUnassigned(path)
	k.mu.Lock()
	defer k.mu.Unlock()
	if done {
		delete(k.unassigned, path)
		return
	}
	k.retryAt = k.now().Add(MaxTimer)
}
