package agent

import (
	"maps"
	"slices"

	"kcagent/config"
	"kcagent/sink"
)

// secretFiles are the files with certificates and secrets of everything that is
// wanted.
func secretFiles(c *config.Config) []string {
	paths := make(map[string]bool)
	for i := range c.Consumers {
		for path := range maps.Values(c.Consumers[i].Cluster.Files()) {
			paths[path] = true
		}
	}
	return slices.Sorted(maps.Keys(paths))
}

// learn takes in what the files hold now. Who waits before a next try, perhaps
// for one of them, tries at once.
func (a *Agent) learn(prints config.Prints) {
	for _, e := range a.entries {
		for path := range maps.Values(e.spec.Cluster.Files()) {
			if prints[path] != a.prints[path] {
				e.runner.Update(e.spec) // ends the wait
			}
		}
	}
	a.prints = prints
}

// renew has new credentials tried for each consumer that runs with others than
// its files hold now, and drops the attempt where the old ones are back. It
// reports whether it changed anything.
//
// It compares what the consumer has read with what is there, not one look at the
// files with the next, so that no change falls between two.
func (a *Agent) renew() (changed bool) {
	if len(a.prints) == 0 {
		return false
	}
	for _, e := range a.entries {
		if len(e.spec.Cluster.Files()) == 0 || e.cancel == nil || e.ending || e.timer != nil {
			continue
		}
		fields, prints := a.outdated(e)
		pending := e.next != nil && e.next.change.Op == Reconnect
		switch {
		case len(fields) == 0 && pending:
			e.next, changed = nil, true
			a.log.Info("credentials are the former ones again", "consumer", e.name)
		case len(fields) > 0 && (e.next == nil || pending && !maps.Equal(e.next.prints, prints)):
			// Neither a missing topic nor a full disk must keep it from using them.
			bare := e.spec
			bare.Topics, bare.TopicsRegex, bare.Sink = nil, "", sink.Spec{}
			c := Change{Op: Reconnect, Name: e.name, Fields: fields, Spec: bare}
			a.announce(c)
			e.attempt(c)
			e.next.prints, changed = prints, true
		}
	}
	return changed
}

// outdated names the fields whose files hold something else than what the
// consumer uses or was last told to use, and what all of them hold.
func (a *Agent) outdated(e *entry) (fields []string, prints config.Prints) {
	used := e.runner.Snapshot().Fingerprints
	if used == nil {
		return nil, nil // it has yet to read them
	}
	prints = make(config.Prints)
	for field, path := range e.spec.Cluster.Files() {
		now, seen := a.prints[path]
		if !seen {
			continue
		}
		prints[path] = now
		if now != used[path] && now != e.renewed[path] {
			fields = append(fields, field)
		}
	}
	slices.Sort(fields)
	return fields, prints
}
