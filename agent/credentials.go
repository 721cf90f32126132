package agent

import (
	"maps"
	"slices"

	"kcagent/agent/plan"
	"kcagent/config"
	"kcagent/config/filewatch"
	"kcagent/logkey"
	"kcagent/sink"
)

// secretFiles lists the files with certificates and secrets that a configuration names.
func secretFiles(c *config.Config) []string {
	paths := make(map[string]bool)
	for i := range c.Consumers {
		for path := range maps.Values(c.Consumers[i].Cluster.Files()) {
			paths[path] = true
		}
	}
	return slices.Sorted(maps.Keys(paths))
}

// updateFingerprints takes over the fingerprints of the files with secrets. A consumer that
// uses a changed file and waits before a retry, perhaps because of that file, retries at
// once.
func (a *Agent) updateFingerprints(fingerprints filewatch.Fingerprints) {
	for _, e := range a.entries {
		for path := range maps.Values(e.spec.Cluster.Files()) {
			if fingerprints[path] != a.fingerprints[path] {
				e.runner.RetryNow()
			}
		}
	}
	a.fingerprints = fingerprints
}

// checkCredentials queues a reconnect for each consumer that runs with other credentials
// than its files hold. It removes it if the files hold the former ones again, or if the
// consumer has read the new ones meanwhile. It reports whether it changed anything.
//
// It compares the credentials that the consumer has read with the files, not the files with
// themselves some time ago, so it misses no change.
func (a *Agent) checkCredentials() (changed bool) {
	if len(a.fingerprints) == 0 {
		return false
	}
	for _, e := range a.entries {
		if len(e.spec.Cluster.Files()) == 0 || e.cancel == nil || e.ending || e.timer != nil {
			continue
		}
		fields, fingerprints := a.outdated(e)
		reconnecting := e.pending != nil && e.pending.change.Op == plan.Reconnect
		switch {
		case len(fields) == 0 && reconnecting:
			a.discard(e, filesChanged)
			changed = true
			a.log.Info("credentials in use are current; no reconnect is needed", logkey.Consumer, e.name)
		case len(fields) > 0 && (e.pending == nil || reconnecting && !maps.Equal(e.pending.fingerprints, fingerprints)):
			a.queueReconnect(e, fields, fingerprints)
			changed = true
		}
	}
	return changed
}

// queueReconnect queues a reconnect with the credentials that the files hold now. Its
// pre-check covers neither topics nor sink: a missing topic or a full disk must not keep
// the consumer from using new credentials before the old ones expire.
func (a *Agent) queueReconnect(e *entry, fields []string, fingerprints filewatch.Fingerprints) {
	spec := *e.spec
	spec.Topics, spec.TopicsRegex, spec.Sink = nil, "", sink.Spec{}
	c := plan.Change{Op: plan.Reconnect, Name: e.name, Fields: fields, Spec: spec}
	a.announce(c)
	a.queue(e, c)
	e.pending.fingerprints = fingerprints
}

// outdated returns the fields whose files differ from what the consumer uses or was last
// asked to use, and the fingerprints of all its files.
func (a *Agent) outdated(e *entry) (fields []string, fingerprints filewatch.Fingerprints) {
	used := e.runner.Fingerprints()
	if used == nil {
		return nil, nil // it has not read them yet
	}
	fingerprints = make(filewatch.Fingerprints)
	for field, path := range e.spec.Cluster.Files() {
		now, seen := a.fingerprints[path]
		if !seen {
			continue
		}
		fingerprints[path] = now
		if now != used[path] && now != e.reconnected[path] {
			fields = append(fields, field)
		}
	}
	slices.Sort(fields)
	return fields, fingerprints
}
