package objects

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"kcagent/sink"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/objects/store"
	"kcagent/sink/sinktest"
)

// TestContract runs the tests that every kind of sink must pass. What a Flush promises of other sinks,
// this one promises of a Flush with the commits that it plans.
func TestContract(t *testing.T) {
	for name, change := range map[string]func(*sink.ObjectsSpec){
		"raw": func(*sink.ObjectsSpec) {},
		"gzip, windows": func(o *sink.ObjectsSpec) {
			o.Compression, o.Key = sink.Gzip, "{topic}/{time:2006/01/02/15}/{partition}-{first}"
		},
		"json, zstd, at least once": func(o *sink.ObjectsSpec) {
			o.Format, o.Compression, o.Rotate.Size, o.Delivery = sink.JSON, sink.Zstd, 2000, sink.AtLeastOnce
		},
	} {
		t.Run(name, func(t *testing.T) {
			sinktest.TestContract(t, func(t *testing.T) *sinktest.Target {
				w := newWorld(t, 0, 0)
				change(&w.spec)
				return objectsTarget(w)
			})
		})
	}
}

func objectsTarget(w *world) *sinktest.Target {
	changed, bad := w.spec, w.spec
	changed.Rotate, changed.Compression, bad.Format = sink.ObjectRotate{Size: 5000, Every: time.Hour}, sink.Zstd, "xml"
	fsys := disktest.NewFaultFS()
	group := &committing{committed: make(map[sink.TopicPartition]sink.Commit)}
	return &sinktest.Target{
		Spec: sink.Spec{Objects: &w.spec}, Changed: sink.Spec{Objects: &changed}, BadFormat: sink.Spec{Objects: &bad},
		Other: sink.Spec{Stdout: &sink.StdoutSpec{Format: sink.Raw}},
		Open: func(ctx context.Context, spec sink.Spec) (sink.Sink, error) {
			due := make(chan struct{}, 1)
			o := sink.Options{Due: func() {
				select {
				case due <- struct{}{}:
				default:
				}
			}}
			s, err := Open(ctx, *spec.Objects, o, func(context.Context, *sink.ObjectsSpec) (store.Store, error) { return w.store.Again(nil), nil })
			if err != nil {
				return nil, err
			}
			own := s.(*objectsSink)
			folder := own.spool
			own.spool = folder.On(fsys)
			c := &committingSink{Sink: s, group: group, due: due, begun: make(map[sink.TopicPartition]bool)}
			c.restore = func() { own.spool = folder }
			return c, nil
		},
		SetFault: func(f func() error) {
			fsys.SetFault(func(op, _ string) error {
				if op == "write" && f != nil {
					return f()
				}
				return nil
			})
		},
		Values: func(t *testing.T) (all []string) {
			values := w.values()
			for _, key := range slices.Sorted(maps.Keys(values)) {
				all = append(all, values[key]...)
			}
			return all
		},
		Fault: syscall.ENOSPC,
	}
}

// committing is what a group has committed.
type committing struct {
	mu        sync.Mutex
	committed map[sink.TopicPartition]sink.Commit
}

// A committingSink commits what the sink plans: a Flush publishes everything.
type committingSink struct {
	sink.Sink
	group    *committing
	due      chan struct{}
	flushing sync.Mutex
	restore  func()

	mu    sync.Mutex
	begun map[sink.TopicPartition]bool
}

// Write begins a partition with its first record.
func (c *committingSink) Write(ctx context.Context, chunk sink.Chunk) error {
	c.mu.Lock()
	begun := c.begun[chunk.TopicPartition]
	c.begun[chunk.TopicPartition] = true
	c.mu.Unlock()
	if !begun {
		if _, err := c.Resume(ctx, chunk.TopicPartition, nil); err != nil {
			return err
		}
		c.group.mu.Lock()
		at := c.group.committed[chunk.TopicPartition].Position
		c.group.mu.Unlock()
		if err := c.Adopt(ctx, chunk.TopicPartition, "", at); err != nil {
			return err
		}
	}
	return c.Sink.Write(ctx, chunk)
}

// Flush publishes everything.
func (c *committingSink) Flush(ctx context.Context, _ bool) error {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	for {
		if err := c.Sink.Flush(ctx, true); err != nil {
			return err
		}
		pending := false
		c.mu.Lock()
		all := slices.Collect(maps.Keys(c.begun))
		c.mu.Unlock()
		for _, tp := range all {
			commit := c.Plan(tp, sink.Position{})
			if commit.Next >= 0 {
				c.group.mu.Lock()
				c.group.committed[tp] = commit
				c.group.mu.Unlock()
				c.Publish(tp, commit)
			}
			o := c.Objects().Partitions[tp]
			pending = pending || o.Closed != nil
		}
		if !pending {
			return nil
		}
		select {
		case <-c.due:
		case <-time.After(2 * time.Minute):
			return errors.New("the sink requests no flush")
		}
	}
}

// Close publishes everything first, as an agent that stops does.
func (c *committingSink) Close(end bool) error {
	err := errors.Join(c.Flush(context.Background(), true), c.Release())
	c.restore()
	return errors.Join(err, c.Sink.Close(end))
}
