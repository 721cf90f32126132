package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/offsets"
	"kcagent/config"
	"kcagent/sink"
)

// A bucket is an object store in memory. Its content survives the agents.
type bucket struct {
	mu      sync.Mutex
	objects map[string][]string // records by key, "t/0:0-2"
	puts    []string            // keys, with repeated puts
	onPut   func(tp sink.TopicPartition, p sink.Plan)
	fault   error         // of each put; nil if it succeeds
	changed chan struct{} // closed by the next set; nil if no upload waits for it
	open    chan struct{} // puts wait until it is closed; nil if they need not wait
}

func (b *bucket) put(tp sink.TopicPartition, p sink.Plan, records []string) error {
	b.mu.Lock()
	check := b.onPut
	b.mu.Unlock()
	if check != nil {
		check(tp, p)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fault != nil {
		return b.fault
	}
	key := fmt.Sprintf("%s/%d:%d-%d", tp.Topic, tp.Partition, p.First, p.Next-1)
	b.puts = append(b.puts, key)
	if b.objects == nil {
		b.objects = make(map[string][]string)
	}
	if _, ok := b.objects[key]; !ok { // the same identity: adopted
		b.objects[key] = slices.Clone(records)
	}
	return nil
}

// set changes how puts end.
func (b *bucket) set(fault error, open chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault, b.open = fault, open
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// awaitChange waits for the next set. It reports whether ctx has ended.
func (b *bucket) awaitChange(ctx context.Context) (ended bool) {
	b.mu.Lock()
	if b.fault == nil {
		b.mu.Unlock()
		return ctx.Err() != nil
	}
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	changed := b.changed
	b.mu.Unlock()
	select {
	case <-changed:
		return false
	case <-ctx.Done():
		return true
	}
}

// records returns the records of all objects, sorted.
func (b *bucket) records() (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, records := range b.objects {
		all = append(all, records...)
	}
	slices.Sort(all)
	return all
}

func (b *bucket) keys() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for k := range b.objects {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// A planned is a sink that publishes by plan, into a bucket.
type planned struct {
	*bucket
	sink.AnyTime
	every int // records after which a range is complete; 0: only if everything is to be published

	mu        sync.Mutex
	options   sink.Options
	parts     map[sink.TopicPartition]*plannedPart
	full      bool // it takes no chunk
	flushErr  error
	published []sink.Commit // of calls of Publish with a plan
	completed []sink.Plan
	uploads   sync.WaitGroup
	cancel    context.CancelFunc // of the uploads
	released  context.Context
}

// A plannedPart is what a sink has of one partition.
type plannedPart struct {
	base, next sink.Position // published, and accepted
	records    []string      // of the range that grows
	nonce      string        // of the next commit without a plan
	completing *sink.Plan
	closed     *closedRange
}

type closedRange struct {
	plan     sink.Plan
	next     sink.Position
	records  []string
	uploads  bool // the upload has begun
	uploaded bool
	failed   error // of the last upload
}

func (s *planned) open(_ context.Context, _ sink.Spec, o sink.Options) (sink.Sink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options, s.parts = o, make(map[sink.TopicPartition]*plannedPart)
	s.released, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

func (s *planned) Encoder(sink.TopicPartition) sink.Encoder { return s }

func (s *planned) ValueOnly() bool { return false }

func (s *planned) Append(dst []byte, r *sink.Record) []byte {
	return fmt.Appendf(dst, "%s/%d@%d=%s\n", r.Topic, r.Partition, r.Offset, r.Value)
}

func (s *planned) Objects() sink.Objects { return sink.Objects{} }

func (s *planned) Update(sink.Spec) error { return nil }

func (s *planned) Resume(_ context.Context, tp sink.TopicPartition, _ sink.Commits) (sink.Ledger, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.parts, tp)
	return sink.Ledger{Planned: true, Position: sink.Position{Next: -1}}, nil
}

func (s *planned) Adopt(_ context.Context, tp sink.TopicPartition, _ string, p sink.Position) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.parts[tp]; was != nil && (len(was.records) > 0 || was.closed != nil) {
		panic(fmt.Sprintf("%v adopts %d and has %+v", tp, p.Next, was))
	}
	s.parts[tp] = &plannedPart{base: p, next: p, nonce: offsets.NewID()}
	return nil
}

func (s *planned) Complete(_ context.Context, tp sink.TopicPartition, p sink.Position, plan sink.Plan) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[tp] = &plannedPart{base: p, next: p, completing: &plan, nonce: offsets.NewID()}
	s.completed = append(s.completed, plan)
	return nil
}

func (s *planned) Limits(tp sink.TopicPartition) (l sink.Limits, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[tp]; p != nil && p.completing != nil {
		l.Before = p.completing.Next
	}
	return l, !s.full
}

func (s *planned) Write(_ context.Context, c sink.Chunk) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[c.TopicPartition]
	if c.Large != nil {
		c.Data = s.Append(nil, c.Large)
	}
	for line := range strings.Lines(string(c.Data)) {
		p.records = append(p.records, strings.TrimSuffix(line, "\n"))
	}
	p.next.Next, p.next.Epoch = c.Next, c.Epoch
	if plan := p.completing; plan != nil && c.Next >= plan.Next && p.closed == nil {
		p.closed = &closedRange{plan: *plan, next: p.next, records: p.records}
		p.records = nil
		s.upload(c.TopicPartition, p.closed)
	}
	return nil
}

func (s *planned) Flush(_ context.Context, all bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	failed := make(map[sink.TopicPartition]error)
	for tp, p := range s.parts {
		if p.closed == nil && p.completing == nil && len(p.records) > 0 && (all || s.every > 0 && len(p.records) >= s.every) {
			p.closed = &closedRange{next: p.next, records: p.records, plan: sink.Plan{
				Nonce: offsets.NewID(), First: p.base.Next, Next: p.next.Next, Epoch: p.next.Epoch, Records: int64(len(p.records)),
				Settings: map[string]string{"url": "mem://bucket"},
			}}
			p.records = nil
		}
		if p.closed != nil && p.closed.failed != nil {
			failed[tp] = p.closed.failed
		}
		if s.flushErr != nil {
			failed[tp] = s.flushErr
		}
	}
	if len(failed) > 0 {
		return &sink.FlushError{Failed: failed}
	}
	return nil
}

func (s *planned) Plan(tp sink.TopicPartition, accepted sink.Position) sink.Commit {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[tp]
	switch {
	case p == nil:
		return sink.Commit{Position: sink.Position{Next: -1}}
	case p.closed == nil && len(p.records) == 0 && p.completing == nil:
		if accepted.Next > p.base.Next { // an upload may have ended before the agent has recorded the last Write
			p.base = accepted
		}
	case p.closed == nil && p.completing != nil:
		return sink.Commit{Position: p.base, Plan: p.completing, Nonce: p.completing.Nonce}
	case p.closed != nil && p.closed.uploaded:
		return sink.Commit{Position: p.closed.next, Nonce: p.nonce}
	case p.closed != nil:
		plan := p.closed.plan // a copy: the agent must not rely on the pointer
		return sink.Commit{Position: p.base, Plan: &plan, Nonce: plan.Nonce}
	}
	return sink.Commit{Position: p.base, Nonce: p.nonce}
}

func (s *planned) Publish(tp sink.TopicPartition, c sink.Commit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Plan != nil {
		s.published = append(s.published, c)
	}
	p := s.parts[tp]
	switch {
	case p == nil || p.closed == nil:
	case c.Plan != nil && c.Nonce == p.closed.plan.Nonce:
		s.upload(tp, p.closed)
	case c.Plan == nil && p.closed.uploaded && c.Next == p.closed.next.Next:
		p.base, p.closed, p.completing, p.nonce = p.closed.next, nil, nil, offsets.NewID()
	}
}

// upload starts the upload of a range, once. s.mu is held.
func (s *planned) upload(tp sink.TopicPartition, r *closedRange) {
	if r.uploads {
		return
	}
	r.uploads = true
	s.bucket.mu.Lock()
	wait, released, due := s.bucket.open, s.released, s.options.Due
	s.bucket.mu.Unlock()
	s.uploads.Go(func() {
		for {
			if wait != nil {
				select {
				case <-wait:
				case <-released.Done():
				}
			}
			if released.Err() != nil {
				return
			}
			err := s.put(tp, r.plan, r.records)
			s.mu.Lock()
			r.failed, r.uploaded = err, err == nil
			s.mu.Unlock()
			due()
			if err == nil {
				return
			}
			if s.bucket.awaitChange(released) {
				return
			}
		}
	})
}

func (s *planned) Release() error {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.uploads.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.parts)
	s.released, s.cancel = context.WithCancel(context.Background())
	return nil
}

func (s *planned) Close(bool) error {
	err := s.Release()
	s.cancel()
	return err
}

// setFull makes the sink take chunks, or none.
func (s *planned) setFull(full bool) {
	s.mu.Lock()
	s.full = full
	ready := s.options.Ready
	s.mu.Unlock()
	if !full {
		ready(sink.TopicPartition{Topic: "t"})
	}
}

var errStore = errors.New("the store does not respond")

// newPlannedRig returns a rig whose sink publishes by plan.
func newPlannedRig(t *testing.T, partitions int32, every int) (*rig, *planned) {
	t.Helper()
	r := newRig(t, partitions)
	p := &planned{bucket: &bucket{}, every: every}
	r.restart(p.open)
	return r, p
}

// wantObjects waits until the bucket has exactly these objects.
func (r *rig) wantObjects(b *bucket, want ...string) {
	r.Helper()
	r.eventually("objects "+strings.Join(want, " "), func() (bool, any) {
		got := b.keys()
		return slices.Equal(got, want), got
	})
}

// wantOnce checks that each of some records is in one object.
func (r *rig) wantOnce(b *bucket, want ...string) {
	r.Helper()
	r.eventually("each record once: "+strings.Join(want, " "), func() (bool, any) {
		got := b.records()
		return slices.Equal(got, want), got
	})
}

// neighbour starts another agent on the same cluster.
func (r *rig) neighbour(p *planned) *rig {
	other := &rig{T: r.T, cluster: r.cluster, client: r.client, memory: &memory{}, open: p.open, updates: make(chan config.Update)}
	other.start()
	return other
}

// deleteBefore deletes the records of a partition before an offset.
func (r *rig) deleteBefore(partition int32, offset int64) {
	r.Helper()
	if offset == 0 {
		return
	}
	req := kmsg.NewPtrDeleteRecordsRequest()
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Partition, rp.Offset = partition, offset
	rt.Topic, rt.Partitions = "t", append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(context.Background(), r.client)
	if err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		r.Fatal(err, resp)
	}
}

// observeCommits passes the next n commits of plans to see. They get the error code as response, or
// are committed if it is nil.
func (r *rig) observeCommits(see func(offset int64, m offsets.Metadata), code *kerr.Error, n int) {
	var seen atomic.Int64
	r.cluster.ControlKey(int16(kmsg.OffsetCommit), func(k kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		req := k.(*kmsg.OffsetCommitRequest)
		p := req.Topics[0].Partitions[0]
		m, _ := offsets.ParseMetadata(*p.Metadata)
		if m.Plan == nil || seen.Add(1) > int64(n) {
			return nil, nil, false
		}
		see(p.Offset, m)
		if code == nil {
			return nil, nil, false
		}
		return commitResponse(req, code), nil, true
	})
}

// fail makes flushes fail with an error, or succeed, as after an upload that has ended.
func (s *planned) fail(err error) {
	s.mu.Lock()
	s.flushErr = err
	due := s.options.Due
	s.mu.Unlock()
	due()
}
