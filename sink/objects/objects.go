package objects

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"kcagent/sink"
	"kcagent/sink/objects/spool"
	"kcagent/sink/objects/store"
	"kcagent/sink/sinkio"
)

// An objectsSink publishes the records of a consumer as objects; see the package comment. Locks are
// taken in the order partition.write, partition.mu, then mu, pool.mu or Timer.mu. No lock but
// partition.write is held during a call of a store, of the file system, or of a function of Options.
type objectsSink struct {
	spec    atomic.Pointer[sink.ObjectsSpec]
	current atomic.Pointer[settings] // of the spec, for the next range
	options sink.Options
	spool   *spool.Folder
	stores  stores
	timer   *sinkio.Timer
	ctx     context.Context // of all jobs
	cancel  context.CancelFunc
	uploads *queue
	probes  *queue

	mu         sync.Mutex
	partitions map[sink.TopicPartition]*partition
}

// Open opens an objects sink, its part of the spool, and the store of the spec. It sends no request
// to the store, unless open does.
func Open(ctx context.Context, spec sink.ObjectsSpec, o sink.Options, open Opener) (sink.Sink, error) {
	s := &objectsSink{options: o, stores: stores{open: open, byKey: make(map[string]store.Store)}, partitions: make(map[sink.TopicPartition]*partition)}
	if err := s.start(ctx, spec); err != nil {
		return nil, fmt.Errorf("open %s: %w", spec.URL, err)
	}
	return s, nil
}

func (s *objectsSink) start(ctx context.Context, spec sink.ObjectsSpec) error {
	if s.options.Log == nil {
		s.options.Log = slog.New(slog.DiscardHandler)
	}
	if s.options.Now == nil {
		s.options.Now = time.Now
	}
	current, err := s.openSettings(ctx, spec)
	if err != nil {
		s.stores.close()
		return err
	}
	if s.spool, err = spool.Open(ctx, spec.SpoolFolder()); err != nil {
		s.stores.close()
		return err
	}
	s.spec.Store(&spec)
	s.current.Store(current)
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	server := serverOf(spec)
	s.uploads, s.probes = &queue{pool: uploads, server: server, ctx: s.ctx}, &queue{pool: probes, server: server, ctx: s.ctx}
	s.timer = &sinkio.Timer{Now: s.options.Now, OnDeadline: s.due}
	return nil
}

// openSettings returns the settings of a spec, with its store, which it opens.
func (s *objectsSink) openSettings(ctx context.Context, spec sink.ObjectsSpec) (*settings, error) {
	opened, err := newSettings(spec)
	if err != nil {
		return nil, err
	}
	opened.store, err = s.stores.get(ctx, spec)
	return opened, err
}

// due requests a flush.
func (s *objectsSink) due() {
	if s.options.Due != nil {
		s.options.Due()
	}
}

// partition returns a partition, and creates it if there is none.
func (s *objectsSink) partition(tp sink.TopicPartition) *partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[tp]
	if p == nil {
		p = &partition{sink: s, tp: tp, write: sinkio.NewMutex()}
		p.settings.Store(s.current.Load())
		s.partitions[tp] = p
	}
	return p
}

// all returns all partitions.
func (s *objectsSink) all() []*partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.partitions))
}

// Resume implements [sink.Sink]. The sink holds nothing of the partition then: what is not published
// is read from Kafka again.
func (s *objectsSink) Resume(ctx context.Context, tp sink.TopicPartition, _ sink.Commits) (sink.Ledger, error) {
	p := s.partition(tp)
	if err := p.write.Lock(ctx); err != nil {
		return sink.Ledger{}, err
	}
	defer p.write.Unlock()
	p.drop()
	return sink.Ledger{Planned: true, Position: sink.Position{Next: -1}}, nil
}

// errUnpublished says that the sink has records that it has not published, and that the new position
// would lose or repeat them.
var errUnpublished = errors.New("the sink has records that are not published")

// Adopt implements [sink.Sink]. The range that grows continues after a gap in the offsets. A position
// that moves back requires that everything was published, or a Resume.
func (s *objectsSink) Adopt(ctx context.Context, tp sink.TopicPartition, _ string, pos sink.Position) error {
	p := s.partition(tp)
	if err := p.write.Lock(ctx); err != nil {
		return err
	}
	defer p.write.Unlock()
	if err := p.begin(pos); err != nil {
		return fmt.Errorf("begin range of %s/%d at offset %d: %w; %w", tp.Topic, tp.Partition, pos.Next, err, sink.ErrReopen)
	}
	return nil
}

// Complete implements [sink.Sink].
func (s *objectsSink) Complete(ctx context.Context, tp sink.TopicPartition, pos sink.Position, plan sink.Plan) error {
	fail := func(err error) error {
		return fmt.Errorf("complete the plan for offsets %d to %d of %s/%d: %w", plan.First, plan.Next-1, tp.Topic, tp.Partition, err)
	}
	if pos.Next != plan.First || plan.Next <= plan.First {
		return fail(fmt.Errorf("it does not begin at offset %d", pos.Next))
	}
	planned, err := s.openSettings(ctx, withPlan(*s.spec.Load(), plan.Settings))
	if err != nil {
		return fail(err)
	}
	p := s.partition(tp)
	if err := p.write.Lock(ctx); err != nil {
		return err
	}
	defer p.write.Unlock()
	p.adopt(pos, plan, planned)
	return nil
}

// Update implements [sink.Sink]. Rotation and compression apply to the next range.
func (s *objectsSink) Update(spec sink.Spec) error {
	was := s.spec.Load()
	if spec.Objects == nil {
		return fmt.Errorf("update sink %s: its kind cannot be changed to %q", was.URL, spec.Kind())
	}
	next := *was
	next.Rotate, next.Compression = spec.Objects.Rotate, spec.Objects.Compression
	current, err := newSettings(next)
	if err != nil {
		return fmt.Errorf("update sink %s: %w", was.URL, err)
	}
	current.store = s.current.Load().store
	s.spec.Store(&next)
	s.current.Store(current)
	return nil
}

// Release implements [sink.Sink]. Uploads in progress are cancelled. With exactly_once, one that takes
// effect nevertheless is that of a committed plan, which the successor completes under the same key.
func (s *objectsSink) Release() error {
	for _, p := range s.all() {
		p.drop()
	}
	s.timer.Reset(time.Time{})
	return nil
}

// Close implements [sink.Sink]. It publishes nothing, because only a commit allows that.
func (s *objectsSink) Close(bool) error {
	err := s.Release()
	s.timer.Stop()
	s.cancel()
	s.uploads.close()
	s.probes.close()
	s.stores.close()
	return errors.Join(err, s.spool.Close())
}

// Objects implements [sink.Sink].
func (s *objectsSink) Objects() sink.Objects {
	all := sink.Objects{Partitions: make(map[sink.TopicPartition]sink.PartitionObjects)}
	for _, p := range s.all() {
		if o, ok := p.objects(&all); ok {
			all.Partitions[p.tp] = o
		}
	}
	return all
}
