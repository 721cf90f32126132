package agent

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/lag"
	"kcagent/agent/stats"
	"kcagent/agent/web"
	"kcagent/config"
	"kcagent/config/filewatch"
	"kcagent/sink"
)

func (a *Agent) Status() web.Status { return a.api.Status() }

func (a *Agent) Threads() (web.Threads, error) { return a.api.Threads() }

// A fakeRunner is a consumer that does nothing but change its state.
type fakeRunner struct {
	run func(context.Context) // while it is RUNNING

	mu           sync.Mutex
	spec         config.Consumer // as last asked for
	snapshot     consumer.Snapshot
	fingerprints filewatch.Fingerprints
	snapshots    int
	updates      int
	awaited      []string
	reconnects   int
	retries      int
	reopens      int
}

func newFakeRunner(spec *config.Consumer) *fakeRunner {
	now := time.Now()
	f := &fakeRunner{
		run:      func(ctx context.Context) { <-ctx.Done() },
		spec:     *spec,
		snapshot: consumer.Snapshot{ID: rand.Text(), Name: spec.Name, Created: now, State: consumer.Created, Since: now},
	}
	counted := stats.New()
	f.snapshot.Counters = counted.Counters()
	return f
}

func (f *fakeRunner) Run(ctx context.Context) {
	f.to(consumer.Starting, "")
	f.to(consumer.Running, "")
	f.run(ctx)
	<-ctx.Done()
	f.to(consumer.Stopping, "")
	f.to(context.Cause(ctx).(consumer.StopReason).To, "")
}

func (f *fakeRunner) to(s consumer.State, fault string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.snapshot.State != s {
		f.snapshot.State, f.snapshot.Since = s, time.Now()
	}
	f.snapshot.Fault, f.snapshot.Started = fault, s != consumer.Starting && s != consumer.Created
}

func (f *fakeRunner) Update(spec *config.Consumer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spec = *spec
	f.updates++
}

func (f *fakeRunner) asked() config.Consumer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.spec
}

func (f *fakeRunner) Reconnect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reconnects++
}

func (f *fakeRunner) RetryNow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retries++
}

func (f *fakeRunner) Fingerprints() filewatch.Fingerprints {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fingerprints
}

func (f *fakeRunner) Reopen() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reopens++
}

func (f *fakeRunner) AwaitTopics(topics []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.awaited = append(f.awaited, topics...)
}

func (f *fakeRunner) Wait(reason string) {
	if reason == "" {
		f.to(consumer.Created, "")
		return
	}
	f.to(consumer.Starting, reason)
}

func (f *fakeRunner) Retire() {
	if f.Snapshot().State == consumer.Created {
		f.to(consumer.Terminated, "")
	}
}

func (f *fakeRunner) Sample(time.Time) {}

func (f *fakeRunner) Brief() consumer.Snapshot { return f.Snapshot() }

func (f *fakeRunner) TotalLag() lag.Lag { return lag.Lag{} }

func (f *fakeRunner) SinkObjects() sink.Objects { return sink.Objects{} }

func (f *fakeRunner) Snapshot() consumer.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snapshots++
	return f.snapshot
}
