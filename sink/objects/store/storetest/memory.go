// Package storetest tests that a kind of store keeps the contract of package store, and has a store
// in memory whose calls can fail, hang, or lose their response.
//
// The test of a kind calls [TestStore] with a [Target]. Tests of the objects sink use [Memory].
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"kcagent/sink/objects/store"
)

// The operations of a [Call].
const (
	Put    = "put"
	Head   = "head"
	Open   = "open"
	Delete = "delete"
	List   = "list"
	Abort  = "abort" // AbortUploads
)

// A Call is a call of a method of a store.
type Call struct {
	Op  string
	Key string // or the prefix of a List
}

// A Fault is what happens to a call. The zero value means no fault.
type Fault struct {
	// Before is the error of a call that has no effect.
	Before error
	// After is the error of a call that takes effect, but whose response is lost.
	After error
	// Late, if not nil, delays the effect of a Put until it is closed. The call returns After at
	// once, or, if After is nil, the error of its context when that ends. See [Memory.Wait].
	Late <-chan struct{}
}

// A Hook is called before each call. It may block, so that the call hangs; then it should return
// when ctx ends.
type Hook func(ctx context.Context, c Call) Fault

// ErrFault is an error for faults.
var ErrFault = errors.New("the store is unavailable")

// Memory is a store in memory. Several stores may share the objects, see [Memory.Again].
type Memory struct {
	shared *bucket
	hook   Hook // nil is none
}

// A bucket has the objects.
type bucket struct {
	conditional bool

	mu       sync.Mutex
	objects  map[string]stored
	writes   map[string]int // how often the content of a key was set
	calls    []Call
	late     sync.WaitGroup
	modified int64
}

type stored struct {
	store.Object
	data []byte
}

// NewMemory returns an empty store. conditional says that a Put of an existing object returns
// [store.ErrExists], and does not replace it.
func NewMemory(conditional bool) *Memory {
	return &Memory{shared: &bucket{conditional: conditional, objects: make(map[string]stored), writes: make(map[string]int)}}
}

// Again returns another client of the same objects, with a hook of its own; nil is none.
func (m *Memory) Again(hook Hook) *Memory { return &Memory{m.shared, hook} }

// call records a call, and returns its fault.
func (m *Memory) call(ctx context.Context, op, key string) (Fault, error) {
	c := Call{op, key}
	m.shared.mu.Lock()
	m.shared.calls = append(m.shared.calls, c)
	m.shared.mu.Unlock()
	var f Fault
	if m.hook != nil {
		f = m.hook(ctx, c)
	}
	if f.Before != nil {
		return f, f.Before
	}
	return f, ctx.Err()
}

// Put implements [store.Store].
func (m *Memory) Put(ctx context.Context, key string, body io.ReaderAt, size int64, a store.Attributes) error {
	f, err := m.call(ctx, Put, key)
	if err != nil {
		return err
	}
	data := make([]byte, size)
	if n, err := body.ReadAt(data, 0); int64(n) < size {
		return fmt.Errorf("read the body: %v", err) // the caller must not rely on the cause
	}
	a.Meta = maps.Clone(a.Meta)
	if f.Late != nil {
		m.shared.late.Go(func() {
			<-f.Late
			_ = m.shared.put(key, data, a) // the caller receives no response
		})
		if f.After == nil {
			<-ctx.Done()
			return ctx.Err()
		}
		return f.After
	}
	err = m.shared.put(key, data, a)
	if f.After != nil {
		return f.After
	}
	return err
}

func (b *bucket) put(key string, data []byte, a store.Attributes) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.objects[key]; ok && b.conditional {
		return store.ErrExists
	}
	b.modified++
	b.writes[key]++
	b.objects[key] = stored{store.Object{Key: key, Size: int64(len(data)), Modified: time.Unix(b.modified, 0), Attributes: a}, data}
	return nil
}

func (b *bucket) get(key string) (stored, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[key]
	if !ok {
		return stored{}, store.ErrNotExist
	}
	o.Meta = maps.Clone(o.Meta)
	return o, nil
}

// Head implements [store.Store].
func (m *Memory) Head(ctx context.Context, key string) (store.Object, error) {
	f, err := m.call(ctx, Head, key)
	if err := errors.Join(err, f.After); err != nil {
		return store.Object{}, err
	}
	o, err := m.shared.get(key)
	return o.Object, err
}

// Open implements [store.Store].
func (m *Memory) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	f, err := m.call(ctx, Open, key)
	if err := errors.Join(err, f.After); err != nil {
		return nil, err
	}
	o, err := m.shared.get(key)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(o.data)), nil
}

// Delete implements [store.Store].
func (m *Memory) Delete(ctx context.Context, key string) error {
	f, err := m.call(ctx, Delete, key)
	if err != nil {
		return err
	}
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	delete(m.shared.objects, key)
	return f.After
}

// List implements [store.Store].
func (m *Memory) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		f, err := m.call(ctx, List, prefix)
		if err := errors.Join(err, f.After); err != nil {
			yield(store.Object{}, err)
			return
		}
		for _, key := range m.Keys() {
			o, err := m.shared.get(key)
			if err != nil || !strings.HasPrefix(key, prefix) {
				continue
			}
			if !yield(o.Object, nil) {
				return
			}
		}
	}
}

// AbortUploads implements [store.Store]. There are no unfinished uploads.
func (m *Memory) AbortUploads(ctx context.Context, key string) error {
	f, err := m.call(ctx, Abort, key)
	return errors.Join(err, f.After)
}

// Close implements [store.Store].
func (m *Memory) Close() {}

// Keys returns the keys of all objects, in order.
func (m *Memory) Keys() []string {
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	return slices.Sorted(maps.Keys(m.shared.objects))
}

// Content returns an object and its content; false if there is none.
func (m *Memory) Content(key string) (store.Object, []byte, bool) {
	o, err := m.shared.get(key)
	return o.Object, o.data, err == nil
}

// Writes returns how often the content of a key was set.
func (m *Memory) Writes(key string) int {
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	return m.shared.writes[key]
}

// Calls returns all calls of all clients so far.
func (m *Memory) Calls() []Call {
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	return slices.Clone(m.shared.calls)
}

// Wait waits until each Put that was delayed has taken effect.
func (m *Memory) Wait() { m.shared.late.Wait() }
