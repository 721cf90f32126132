package retention

import (
	"time"

	"kcagent/sink"
)

// unassignedDue returns when the growing file of an unassigned partition is completed; zero
// if that is unknown. If rotate has no period, it is unknown until the agent has been
// assigned partitions, which may include this one.
func (k *Keeper) unassignedDue(r *sink.Rotate, since, now time.Time) time.Time {
	switch {
	case r.Every > 0 && !r.InPeriod(since, now):
		return now // also if the clock was set back to before the period
	case r.Every > 0:
		return r.PeriodEnd(since)
	case k.everAssigned:
		return since.Add(UnassignedGrace)
	}
	return time.Time{}
}

// CompleteDue completes growing files of assigned partitions whose period has ended.
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

// completeUnassigned completes the growing file of partitions that are not assigned, unless
// another agent has it, or a partition was assigned meanwhile.
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
