// Package sinktest tests that a kind of sink keeps the contract of package sink.
//
// The test of a kind calls [TestContract] with a [Target]. The other functions create
// records and compare them, for further tests of a kind.
package sinktest

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"kcagent/sink"
)

// A Target is a sink under test, with what the tests need to read from it and to break in
// it.
type Target struct {
	Spec      sink.Spec
	Changed   sink.Spec // Spec with other values of all settings that may change in a running sink
	Other     sink.Spec // a spec of another kind
	BadFormat sink.Spec // Spec with a format that does not exist
	// Open opens a sink of the target's kind.
	Open func(ctx context.Context, spec sink.Spec) (sink.Sink, error)
	// Values returns the values of all records in the sink, in its order.
	Values func(t *testing.T) []string
	// SetFault sets a function that is called before each system call that writes, and whose
	// error the call returns. nil removes it.
	SetFault func(fault func() error)
	// Fault is the error of a system call after which a Write is repeated; nil is EIO.
	Fault error
	// Buffers says that an accepted record may be written only by a Flush.
	Buffers bool
}

func (c *Target) open(t *testing.T) sink.Sink {
	t.Helper()
	s, err := c.Open(t.Context(), c.Spec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestContract runs the tests that every kind of sink must pass. newTarget returns a target
// that holds nothing.
func TestContract(t *testing.T, newTarget func(t *testing.T) *Target) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, c *Target)
	}{
		{"partitions write at once", testAtOnce},
		{"large batch", testLargeBatch},
		{"large record", testLargeRecord},
		{"keeps no bytes", testKeepsNoBytes},
		{"retry after an error", testRetry},
		{"waiting ends with the context", testWaiting},
		{"close flushes", testClose},
		{"update", testUpdate},
		{"unknown format", testUnknownFormat},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newTarget(t)) })
	}
}

func testAtOnce(t *testing.T, c *Target) {
	const partitions, size, count = 4, 37, 40
	s := c.open(t)
	var wg sync.WaitGroup
	for p := range int32(partitions) {
		wg.Go(func() {
			for i := range count {
				if err := Write(t.Context(), s, Records(p, i*size, size)); err != nil {
					t.Error(err)
				}
				if i%10 == 0 {
					if err := s.Flush(t.Context(), false); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := s.Flush(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	got := c.Values(t) // before Close: a Flush suffices
	if err := s.Close(false); err != nil {
		t.Fatal(err)
	}
	if len(got) != partitions*size*count {
		t.Errorf("%d records, want %d", len(got), partitions*size*count)
	}
	for p := range int32(partitions) {
		Equal(t, OfPartition(got, p), Want(p, 0, size*count))
	}
}

func testLargeBatch(t *testing.T, c *Target) {
	const n = 50_000
	s := c.open(t)
	for range 2 {
		if err := Write(t.Context(), s, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(t.Context(), s, Records(0, 0, n)); err != nil {
		t.Fatal(err)
	}
	if err := Write(t.Context(), s, Records(1, 0, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(false); err != nil {
		t.Fatal(err)
	}
	Equal(t, c.Values(t), append(Want(0, 0, n), Want(1, 0, 1)...))
}

func testLargeRecord(t *testing.T, c *Target) {
	s := c.open(t)
	for i := range 3 {
		records := Records(0, i, 1)
		write := func() error { return Write(t.Context(), s, records) }
		if i == 1 {
			write = func() error { return WriteLarge(t.Context(), s, &records[0]) }
		}
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(false); err != nil {
		t.Fatal(err)
	}
	Equal(t, c.Values(t), Want(0, 0, 3))
}

func testKeepsNoBytes(t *testing.T, c *Target) {
	s := c.open(t)
	recs := Records(0, 0, 10)
	if err := Write(t.Context(), s, recs); err != nil {
		t.Fatal(err)
	}
	for i := range recs {
		copy(recs[i].Value, "SCRIBBLE")
		recs[i] = sink.Record{Topic: "other", Value: []byte("wrong")}
	}
	if err := s.Close(false); err != nil {
		t.Fatal(err)
	}
	Equal(t, c.Values(t), Want(0, 0, 10))
}

func testRetry(t *testing.T, c *Target) {
	if c.Buffers {
		t.Skip("the sink buffers records")
	}
	s := c.open(t)
	if err := Write(t.Context(), s, Records(0, 0, 5)); err != nil {
		t.Fatal(err)
	}
	fault := cmp.Or(c.Fault, error(syscall.EIO))
	c.SetFault(func() error { return fault })
	for range 3 {
		if err := Write(t.Context(), s, Records(0, 5, 5)); !errors.Is(err, fault) {
			t.Fatalf("got %v, want %v", err, fault)
		}
	}
	c.SetFault(nil)
	if err := s.Flush(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	Equal(t, c.Values(t), Want(0, 0, 5))
	if err := Write(t.Context(), s, Records(0, 5, 5)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(false); err != nil {
		t.Fatal(err)
	}
	Equal(t, c.Values(t), Want(0, 0, 10))
}

// testWaiting blocks one write, and checks that a write that has to wait for it ends with
// its context.
func testWaiting(t *testing.T, c *Target) {
	if c.Buffers {
		t.Skip("the sink buffers records")
	}
	s := c.open(t)
	hanging, release := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	c.SetFault(func() error {
		if once.CompareAndSwap(false, true) {
			close(hanging)
			<-release
		}
		return nil
	})
	first := make(chan error, 1)
	go func() { first <- Write(context.Background(), s, Records(0, 0, 3)) }()
	<-hanging
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// It is the same partition, so that it has to wait in every kind of sink.
	if err := Write(ctx, s, Records(0, 3, 3)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if err := Write(t.Context(), s, Records(0, 3, 3)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(false); err != nil {
		t.Fatal(err)
	}
	Equal(t, c.Values(t), Want(0, 0, 6))
}

func testClose(t *testing.T, c *Target) {
	for i := range 3 { // each continues where the one before it ended
		s := c.open(t)
		if err := Write(t.Context(), s, Records(0, i*10, 10)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(false); err != nil {
			t.Fatal(err)
		}
		Equal(t, c.Values(t), Want(0, 0, (i+1)*10))
	}
}

func testUpdate(t *testing.T, c *Target) {
	s := c.open(t)
	if err := Write(t.Context(), s, Records(0, 0, 1)); err != nil {
		t.Fatal(err)
	}
	next, other := c.Changed, c.Other
	if err := s.Update(next); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(other); err == nil {
		t.Error("a spec of another kind was accepted")
	}
	if err := Write(t.Context(), s, Records(0, 1, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(false); err != nil {
		t.Fatal(err)
	}
	Equal(t, c.Values(t), Want(0, 0, 2))
}

func testUnknownFormat(t *testing.T, c *Target) {
	if s, err := c.Open(t.Context(), c.BadFormat); err == nil || s != nil {
		t.Errorf("got %v, %v, want an error", s, err)
	}
}
