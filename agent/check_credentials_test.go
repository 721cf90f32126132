package agent

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"kcagent/agent/plan"
	"kcagent/config"
	"kcagent/config/filewatch"
)

// newRotationTest returns an agent, whose loop does not run, with one consumer that uses the
// file "ca". The consumer has read the fingerprint "1".
func newRotationTest() (*Agent, *entry, *fakeRunner) {
	a := New(Options{Log: slog.New(slog.DiscardHandler)})
	f := newFakeRunner(&config.Consumer{Name: "c", Topics: []string{"t"}, Cluster: config.Cluster{TLS: &config.TLS{CAFile: "ca"}}})
	f.fingerprints = filewatch.Fingerprints{"ca": "1"}
	e := &entry{name: "c", spec: &f.spec, runner: f, cancel: func(error) {}}
	a.entries["c"] = e
	return a, e, f
}

func TestChangedCredentialsAreQueued(t *testing.T) {
	a, e, f := newRotationTest()
	files := func(print string) bool {
		a.updateFingerprints(filewatch.Fingerprints{"ca": print})
		return a.checkCredentials()
	}
	if files("1") || e.pending != nil {
		t.Errorf("pending is %+v although the files hold what the consumer uses", e.pending)
	}
	if !files("2") || e.pending == nil || e.pending.change.Op != plan.Reconnect || !slices.Equal(e.pending.change.Fields, []string{"tls.ca_file"}) {
		t.Fatalf("pending is %+v", e.pending)
	}
	if c := e.pending.change.Spec; c.Topics != nil || c.Cluster.TLS == nil {
		t.Errorf("the pre-check covers %+v, want the cluster without topics", c)
	}
	was := e.pending
	if files("2") || e.pending != was {
		t.Error("the same fingerprint was queued twice")
	}
	if !files("3") || e.pending == was {
		t.Error("a newer fingerprint was not queued")
	}
	if !files("1") || e.pending != nil {
		t.Errorf("pending is %+v although the credentials changed back", e.pending)
	}
	files("2")
	e.pending.start()
	a.handlePreCheck(preCheckResult{entry: e, pending: e.pending})
	a.applyReady()
	if f.reconnects != 1 || e.pending != nil {
		t.Errorf("%d reconnects, pending %+v", f.reconnects, e.pending)
	}
	if files("2") || e.pending != nil {
		t.Error("a reconnect was queued again before the consumer has read the files")
	}
	if f.snapshots > 0 {
		t.Errorf("%d snapshots, each of which looks at all partitions", f.snapshots)
	}
}

func TestCredentialsAreCheckedOnlyWhileAConsumerUsesThem(t *testing.T) {
	for name, change := range map[string]func(*Agent, *entry, *fakeRunner){
		"not read yet": func(_ *Agent, _ *entry, f *fakeRunner) { f.fingerprints = nil },
		"not running":  func(_ *Agent, e *entry, _ *fakeRunner) { e.cancel = nil },
		"ending":       func(_ *Agent, e *entry, _ *fakeRunner) { e.ending = true },
		"stopping":     func(_ *Agent, e *entry, _ *fakeRunner) { e.timer = time.NewTimer(time.Hour) },
		"pending":      func(a *Agent, e *entry, _ *fakeRunner) { a.queue(e, plan.Change{Op: plan.Replace}) }, // the new consumer will read them
	} {
		a, e, f := newRotationTest()
		change(a, e, f)
		was := e.pending
		a.updateFingerprints(filewatch.Fingerprints{"ca": "2"})
		if a.checkCredentials() || e.pending != was {
			t.Errorf("%s: pending is %+v", name, e.pending)
		}
	}
}

// TestChangedFileEndsAWait: a consumer that waits before a retry, perhaps because of a
// file, retries when the file has changed. It applies no settings: that would flush the
// sinks of all consumers that use the file.
func TestChangedFileEndsAWait(t *testing.T) {
	a, _, f := newRotationTest()
	a.updateFingerprints(filewatch.Fingerprints{"ca": "1", "other": "1"})
	was := f.retries
	a.updateFingerprints(filewatch.Fingerprints{"ca": "1", "other": "2"})
	if f.retries != was {
		t.Error("a file of no consumer ended a wait")
	}
	a.updateFingerprints(filewatch.Fingerprints{"ca": "2", "other": "2"})
	if f.retries != was+1 || f.updates > 0 {
		t.Errorf("%d waits were ended, want one, and %d updates, want none", f.retries-was, f.updates)
	}
}
