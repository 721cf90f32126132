package generation

import (
	"context"
	"errors"
	"time"

	"kcagent/fetch"
	"kcagent/retry"
	"kcagent/sink"
)

// flow is the hot path of one partition: record → chunk → sink. It returns when the round
// is over. Records that the sink does not store are released at once, with their memory,
// and fetched again later. Meanwhile the partition takes part in no fetch, so that others
// are not delayed.
func (g *Generation) flow(ctx context.Context, p *Partition, sub *fetch.Subscription) error {
	var wait retry.Backoff
	for g.awaitRecords(ctx, p, sub) == nil {
		if g.slots.take(ctx) != nil {
			break
		}
		c, err := g.read(ctx, p, sub)
		stored := c.stored
		if err == nil && stored == nil && c.moved && !c.reset && (!c.large || c.Next != p.NextOffset()) {
			stored = g.store(ctx, p, c)
		}
		c.free()
		g.slots.give()
		switch {
		case positionLost(err): // the watchdog reports it
			wait.Wait(ctx, nil)
			sub.Retry()
		case err != nil:
			return err
		case c.reset:
			if err := g.resetPosition(ctx, p, c.Next, c.Epoch); err != nil {
				return err
			}
		case !c.moved: // the fetcher dropped the records, because others needed the memory
		case stored == nil:
			g.clearSinkFault(p)
			wait.Reset()
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(stored, sink.ErrReopen):
			return stored
		case errors.Is(stored, errPaused):
			g.clearSinkFault(p)
			rewind(p, sub)
		default:
			rewind(p, sub)
			g.reportSinkFault(p, stored)
			wait.Wait(ctx, nil)
		}
	}
	return ctx.Err()
}

// rewind makes the fetcher return again what the sink did not accept.
func rewind(p *Partition, sub *fetch.Subscription) {
	at, _ := p.position()
	sub.Rewind(at.Next, at.Epoch)
}

// awaitRecords waits until there is something to take. While writes fail it checks each
// second whether the consumer was paused: then nothing is to be stored, and nothing fails.
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
	return sub.Wait(ctx)
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

// recordAccepted records what the sink accepted, and counts it.
func (g *Generation) recordAccepted(p *Partition, c chunk) {
	p.accept(c.Next, c.Epoch, c.last)
	if c.records > 0 {
		g.env.Stats.Records.Add(c.records)
		g.env.Stats.Bytes.Add(c.bytes)
		g.env.Stats.LastRecord.Store(time.Now().UnixNano())
	}
	p.rejected.Accepted(&c.rejected, p.TopicPartition, g.env.Stats, g.env.Log)
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
