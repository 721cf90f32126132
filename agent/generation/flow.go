package generation

import (
	"context"
	"errors"
	"time"

	"kcagent/agent/offsets"
	"kcagent/fetch"
	"kcagent/retry"
	"kcagent/sink"
)

// launch requests the first run of each partition, of the watchdog and of the flusher.
func (g *Generation) launch() {
	for _, p := range g.partitions {
		p.work.Request()
	}
	g.watchdog.work.Request()
	g.flusher.work.Request() // for a flush that the sink requested before
}

// halt ends the tasks of the generation. The context of the session has ended, so the work of each
// partition ends its round. All of it is requested before halt waits: a partition whose sink hangs
// does not delay the others.
func (g *Generation) halt() {
	g.watchdog.stop()
	for _, p := range g.partitions {
		p.work.Request()
	}
	for _, p := range g.partitions {
		p.work.Stop()
		if p.current != nil { // Stop came before the requested run
			p.current.end(p)
		}
	}
	g.flusher.stop()
}

// A round is what a partition holds from one opening of its sink to the next. In the phase
// flowing, it needs a goroutine only while there are records.
type round struct {
	ctx    context.Context // ends the round
	cancel context.CancelCauseFunc
	sub    *fetch.Subscription // nil before the position is decided
	wait   retry.Backoff       // before records are read again that the sink did not store
	plan   *sink.Plan          // that it completes; nil if there is none
	first  int64               // with a plan, the first offset that the log has; the sink gets none before it
}

// end ends the round. p has none afterwards.
func (r *round) end(p *Partition) {
	p.current = nil
	r.cancel(nil)
	if r.sub != nil {
		r.sub.Close()
	}
}

// errNothingToRead says that a round continues once there are records.
var errNothingToRead = errors.New("no records")

// errDecideAgain says that a round ends because the group has committed another offset or plan than
// that with which the round began.
var errDecideAgain = errors.New("decide again")

// advance is the work of a partition: it takes the partition through its phases until there is
// nothing to read, or until ctx ends. An error of the sink that a retry in place cannot correct
// ends a round, and the next round opens the sink again. Other partitions are not affected, and
// the generation continues.
func (g *Generation) advance(ctx context.Context, p *Partition) {
	for !p.over {
		err := g.runRound(ctx, p)
		switch {
		case err == errNothingToRead:
			return
		case g.mustEnd(ctx, err):
			p.over = true
			return
		case err == errDecideAgain:
			continue
		}
		if p.hasFlushed() {
			p.wait.Reset()
		}
		g.reportSinkFault(p, err)
		p.over = g.mustEnd(ctx, g.commitEarlyStart(ctx, p)) || !p.wait.Wait(ctx, nil)
	}
}

// mustEnd reports that ctx has ended, or that an error leaves nothing to retry in this
// generation. It ends the generation where the next one has to decide again.
func (g *Generation) mustEnd(ctx context.Context, err error) bool {
	switch {
	case ctx.Err() != nil:
	case errors.As(err, new(*fetch.RecreatedError)), errors.Is(err, ErrClusterChanged):
		g.abandon(err)
	case errors.Is(err, fetch.ErrClosed), errors.Is(err, fetch.ErrEnded): // the agent ends
	default:
		return false
	}
	return true
}

// runRound goes through the phases once, or continues in flowing. It returns why the round
// ended, or errNothingToRead.
func (g *Generation) runRound(ctx context.Context, p *Partition) (err error) {
	r := p.current
	if r == nil {
		r = &round{}
		r.ctx, r.cancel = context.WithCancelCause(ctx)
		p.current = r
		p.beginRound(func(cause error) {
			r.cancel(cause)
			p.work.Request() // it may be waiting for records, without a goroutine
		})
		var d offsets.Decision
		d, err = g.openPartition(r.ctx, p)
		g.countOpened(p)
		if p.encoder, p.rejects = nil, g.env.Rejects; d.Plan != nil { // both may depend on it
			p.rejects = rulesOf(d.Plan)
		}
		if err == nil {
			err = g.resume(p, r, d)
		}
	}
	if err == nil {
		err = g.flow(p, r)
	}
	if cause := context.Cause(r.ctx); cause != nil {
		err = cause
	}
	if err != errNothingToRead {
		r.end(p)
	}
	return err
}

// flow is the hot path of one partition: record → chunk → sink. It returns when the round
// is over, or when there is nothing to read; then the partition's work is requested once there
// is. Records that the sink does not store are released at once, with their memory, and fetched
// again later. Meanwhile the partition takes part in no fetch, so that others are not delayed.
func (g *Generation) flow(p *Partition, r *round) error {
	ctx, sub := r.ctx, r.sub
	for {
		if r.plan != nil {
			if err := g.completePlan(p, r); err != nil {
				return err
			}
		}
		if !g.takes(p, sub) {
			return errNothingToRead
		}
		if err := g.awaitRecords(ctx, p, sub); err != nil {
			return err
		}
		if err := g.slots.take(ctx); err != nil {
			return err
		}
		c, err := g.read(ctx, p, sub, r.plan)
		stored := c.stored
		if err == nil {
			err = checkPlan(p, r.plan, c)
		}
		if err == nil && stored == nil && c.moved && !c.reset && (!c.large || c.Next != p.NextOffset()) {
			stored = g.store(ctx, p, c)
		}
		c.free()
		g.slots.give()
		switch {
		case positionLost(err): // the watchdog reports it
			r.wait.Wait(ctx, nil)
			sub.Retry()
		case err != nil:
			return err
		case c.reset && r.plan != nil:
			r.first = c.Next
		case c.reset:
			if err := g.resetPosition(ctx, p, c.Next, c.Epoch); err != nil {
				return err
			}
		case !c.moved: // the fetcher dropped the records, because others needed the memory
		case stored == nil:
			g.clearSinkFault(p)
			r.wait.Reset()
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(stored, sink.ErrReopen), errors.As(stored, new(*fetch.RecreatedError)):
			return stored
		case errors.Is(stored, sink.ErrReadAgain):
			rewind(p, sub)
		case errors.Is(stored, errPaused):
			g.clearSinkFault(p)
			rewind(p, sub)
		default:
			rewind(p, sub)
			g.reportSinkFault(p, stored)
			r.wait.Wait(ctx, nil)
		}
	}
}

// rewind makes the fetcher return again what the sink did not accept.
func rewind(p *Partition, sub *fetch.Subscription) {
	at, _ := p.position()
	sub.Rewind(at.Next, at.Epoch)
}

// awaitRecords returns nil if there is something to take. If not, it returns errNothingToRead, and
// the work of the partition is requested once there may be something. After a failed write it
// waits in its goroutine, and checks each second whether the consumer was paused. A pause ends the
// fault, because a paused consumer stores nothing.
func (g *Generation) awaitRecords(ctx context.Context, p *Partition, sub *fetch.Subscription) error {
	for p.sinkFailed {
		if g.env.Gate.IsShut() {
			g.clearSinkFault(p)
			break
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		err := sub.Wait(short)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case sub.Poll(p.request):
		return nil
	}
	return errNothingToRead
}

// slots limits how many chunks of a consumer are in progress at a time.
type slots chan struct{}

func (s slots) take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s slots) give() { <-s }

// errPaused says that a chunk was not stored because the gate is shut.
var errPaused = errors.New("the consumer is paused")

// store writes a chunk to the sink, and does not retry. A chunk without records moves the
// position in the ledger, too.
func (g *Generation) store(ctx context.Context, p *Partition, c chunk) error {
	if !c.first.IsZero() {
		p.willWrite(c.first)
	}
	if p.completedBy(c.Next) {
		if err := g.confirmTopic(ctx, p); err != nil {
			return err
		}
	}
	if !g.env.Gate.Enter() {
		return errPaused
	}
	defer g.env.Gate.Leave()
	if err := g.env.Sink.Write(ctx, c.Chunk); err != nil {
		return err
	}
	g.recordAccepted(p, c)
	return nil
}

// recordAccepted counts what the sink accepted, and records it. A flush may commit it from then on, so
// what is committed has been counted.
func (g *Generation) recordAccepted(p *Partition, c chunk) {
	if c.records > 0 {
		g.env.Stats.Records.Add(c.records)
		g.env.Stats.Bytes.Add(c.bytes)
		g.env.Stats.LastRecord.Store(time.Now().UnixNano())
	}
	p.rejected.Accepted(&c.rejected, p.TopicPartition, g.env.Stats, g.env.Log)
	p.accept(c.Next, c.Epoch, c.last)
	g.flusher.recordAccepted(c.bytes)
}

// storeLarge writes the chunk of a large record to the sink, which uses its bytes until
// storeLarge returns. A pause does not wait for a slow sink: the write is aborted, and the record is
// fetched again later.
func (g *Generation) storeLarge(ctx context.Context, p *Partition, c chunk) error {
	ctx, cancel := context.WithCancelCause(ctx)
	written := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-g.env.Gate.Closing():
			cancel(errPaused)
		case <-written:
		}
	}()
	defer func() {
		close(written)
		<-watched
		cancel(nil)
	}()
	err := g.store(ctx, p, c)
	if err != nil && !errors.Is(err, sink.ErrReopen) && errors.Is(context.Cause(ctx), errPaused) {
		return errPaused
	}
	return err
}
