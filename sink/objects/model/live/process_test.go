package live

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"

	"kcagent/agent/consumer"
	"kcagent/agent/kafka"
	"kcagent/agent/outage"
	"kcagent/config"
	"kcagent/sink"
	"kcagent/sink/objects"
	"kcagent/sink/objects/store"
	"kcagent/sink/objects/store/storetest"
)

// A fate is what happens to a call of a store, or to a commit.
type fate int

const (
	succeeds    fate = iota
	fails            // without effect, and without a response
	loses            // takes effect, and has no response
	errs             // a commit takes effect, and the response is an error; for a call of a store like loses
	late             // takes effect later, and has no response
	hangs            // takes effect at the end, and has no response
	crashes          // the process crashes before the call
	crashesLost      // the process crashes after the call
	crashesLate      // the process crashes, and the call takes effect later
	fates
)

func (f fate) String() string {
	return [fates]string{"succeeds", "fails", "loses its response", "returns an error after its effect", "is late", "hangs", "crashes before", "crashes after", "crashes, and it is late"}[f]
}

// crash reports whether the process crashes.
func (f fate) crash() bool { return f >= crashes }

// A process is a consumer that can crash.
type process struct {
	scene    *scene
	name     string // its instance id
	consumer *consumer.Consumer
	clusters *kafka.Clusters
	cancel   context.CancelCauseFunc
	done     chan struct{}
	crashed  atomic.Bool
	fate     func(call string) fate // of each call; nil is success
}

// launch starts a process.
func (s *scene) launch(fate func(call string) fate) *process {
	s.Helper()
	s.mu.Lock()
	name := fmt.Sprintf("p%d", len(s.processes))
	s.mu.Unlock()
	return s.launchAs(name, fate)
}

// launchAs starts a process with an instance id.
func (s *scene) launchAs(name string, fate func(call string) fate) *process {
	s.Helper()
	p := &process{scene: s, name: name, done: make(chan struct{}), fate: fate}
	s.mu.Lock()
	s.processes = append(s.processes, p)
	s.decoded = s.decoded || s.settings.decode == "json"
	s.mu.Unlock()
	log := slog.New(slog.NewTextHandler(s.output, nil)).With("process", p.name)
	p.clusters = kafka.NewClusters(log)
	p.consumer = consumer.New(s.spec(p.name), log, p.open, p.clusters, outage.NewLog(log))
	ctx, cancel := context.WithCancelCause(context.Background())
	p.cancel = cancel
	go func() {
		defer close(p.done)
		p.consumer.Run(ctx)
		p.clusters.Close()
	}()
	s.Cleanup(p.stop)
	return p
}

func (s *scene) spec(instance string) *config.Consumer {
	s.Helper()
	c, problems := config.Parse("consumers.yaml", []byte(s.yaml(instance)), func(string) (string, bool) { return "", false })
	if len(problems) > 0 {
		s.Fatal(problems)
	}
	return &c.Consumers[0]
}

// stop stops the process, which publishes what it has.
func (p *process) stop() {
	p.cancel(consumer.StopReason{To: consumer.Terminated, Why: "the test stops it"})
	<-p.done
}

// readAll reports whether the sink has accepted all records.
func (p *process) readAll() bool {
	return p.readTo(func(i *kfake.PartitionInfo) int64 { return i.HighWatermark })
}

// readStable is readAll without the records of the transaction that has not ended, and what follows them.
func (p *process) readStable() bool {
	return p.readTo(func(i *kfake.PartitionInfo) int64 { return i.LastStableOffset })
}

func (p *process) readTo(end func(*kfake.PartitionInfo) int64) bool {
	read := 0
	for _, x := range p.consumer.Snapshot().Partitions {
		if i := p.scene.broker.PartitionInfo(topic, x.Partition); i != nil && x.NextOffset >= end(i) {
			read++
		}
	}
	return read == int(p.scene.partitions)
}

// joined reports whether the process is a member with an assignment.
func (p *process) joined() bool {
	state := p.consumer.Brief().State
	return state == consumer.Running || state == consumer.Failing
}

// dies begins a crash: no call has an effect any more, and the member leaves the group, as if its
// session had expired.
func (p *process) dies() {
	if p.crashed.CompareAndSwap(false, true) {
		p.cancel(consumer.StopReason{To: consumer.Terminated, Why: "the test crashes it"})
	}
}

// decide returns the fate of a call.
func (p *process) decide(call string) fate {
	switch {
	case p.crashed.Load():
		return fails
	case p.fate == nil:
		return succeeds
	}
	f := p.fate(call)
	if f != succeeds {
		p.scene.logf("process %s: %s %v", p.name, call, f)
	}
	if f.crash() {
		p.dies()
	}
	return f
}

// open opens the real sink on a store with faults.
func (p *process) open(ctx context.Context, spec sink.Spec, o sink.Options) (sink.Sink, error) {
	real, err := objects.Open(ctx, *spec.Objects, o, func(_ context.Context, of *sink.ObjectsSpec) (store.Store, error) {
		return p.scene.stores[of.URL].Again(p.call), nil
	})
	return &mortal{real, p}, err
}

// call is the hook of the store.
func (p *process) call(_ context.Context, c storetest.Call) storetest.Fault {
	switch f := p.decide(c.Op + " " + c.Key); {
	case f == succeeds:
		return storetest.Fault{}
	case f == fails || f == crashes:
		return storetest.Fault{Before: storetest.ErrFault}
	case (f == late || f == crashesLate) && c.Op == storetest.Put:
		return storetest.Fault{After: storetest.ErrFault, Late: p.scene.lateness()}
	case f == hangs:
		return storetest.Fault{After: storetest.ErrFault, Late: p.scene.end}
	default:
		return storetest.Fault{After: storetest.ErrFault}
	}
}

// A mortal sink does not delay the end of a process that has crashed. It reports the records that it
// accepts.
type mortal struct {
	sink.Sink
	process *process
}

func (m *mortal) Write(ctx context.Context, c sink.Chunk) error {
	err := m.Sink.Write(ctx, c)
	if err == nil {
		m.process.scene.recordPromised(c)
	}
	return err
}

func (m *mortal) Flush(ctx context.Context, all bool) error {
	if m.process.crashed.Load() {
		return sarama.ErrUnknownMemberId
	}
	return m.Sink.Flush(ctx, all)
}
