package sink

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestKinds runs one body over every kind of sink.
func TestKinds(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			for _, c := range []struct {
				name string
				test func(t *testing.T, b *bench)
			}{
				{"partitions write at once", testAtOnce},
				{"large batch", testLargeBatch},
				{"keeps no bytes", testKeepsNoBytes},
				{"retry after an error", testRetry},
				{"waiting ends with the context", testWaiting},
				{"close flushes", testClose},
				{"update", testUpdate},
				{"unknown format", testUnknownFormat},
			} {
				t.Run(c.name, func(t *testing.T) { c.test(t, k.make(t)) })
			}
		})
	}
}

func testAtOnce(t *testing.T, b *bench) {
	const partitions, size, count = 4, 37, 40
	s := b.open(t)
	var wg sync.WaitGroup
	for p := range int32(partitions) {
		wg.Go(func() {
			for i := range count {
				if err := write(t.Context(), s, records(p, i*size, size)); err != nil {
					t.Error(err)
				}
				if i%10 == 0 {
					if err := s.Flush(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := b.values(t) // before Close: a Flush is enough
	if err := s.Close(false); err != nil {
		t.Fatal(err)
	}
	if len(got) != partitions*size*count {
		t.Errorf("%d records, want %d", len(got), partitions*size*count)
	}
	for p := range int32(partitions) {
		equal(t, ofPartition(got, p), want(p, 0, size*count))
	}
}

func testLargeBatch(t *testing.T, b *bench) {
	const n = 50_000
	s := b.open(t)
	for range 2 {
		if err := write(t.Context(), s, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(t.Context(), s, records(0, 0, n)); err != nil {
		t.Fatal(err)
	}
	if err := write(t.Context(), s, records(1, 0, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(false); err != nil {
		t.Fatal(err)
	}
	equal(t, b.values(t), append(want(0, 0, n), want(1, 0, 1)...))
}

func testKeepsNoBytes(t *testing.T, b *bench) {
	s := b.open(t)
	recs := records(0, 0, 10)
	if err := write(t.Context(), s, recs); err != nil {
		t.Fatal(err)
	}
	for i := range recs {
		copy(recs[i].Value, "SCRIBBLE")
		recs[i] = Record{Topic: "other", Value: []byte("wrong")}
	}
	if err := s.Close(false); err != nil {
		t.Fatal(err)
	}
	equal(t, b.values(t), want(0, 0, 10))
}

func testRetry(t *testing.T, b *bench) {
	if b.late {
		t.Skip("what is compressed is written later")
	}
	s := b.open(t)
	if err := write(t.Context(), s, records(0, 0, 5)); err != nil {
		t.Fatal(err)
	}
	b.fault(func() error { return syscall.EIO })
	for range 3 {
		if err := write(t.Context(), s, records(0, 5, 5)); !errors.Is(err, syscall.EIO) {
			t.Fatalf("got %v, want EIO", err)
		}
	}
	b.fault(nil)
	equal(t, b.values(t), want(0, 0, 5))
	if err := write(t.Context(), s, records(0, 5, 5)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(false); err != nil {
		t.Fatal(err)
	}
	equal(t, b.values(t), want(0, 0, 10))
}

// testWaiting has one write hang, and another that must wait for it.
func testWaiting(t *testing.T, b *bench) {
	if b.late {
		t.Skip("what is compressed is written later")
	}
	s := b.open(t)
	hanging, release := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	b.fault(func() error {
		if once.CompareAndSwap(false, true) {
			close(hanging)
			<-release
		}
		return nil
	})
	first := make(chan error, 1)
	go func() { first <- write(context.Background(), s, records(0, 0, 3)) }()
	<-hanging
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// The same partition, so that it meets the hanging write in every kind.
	if err := write(ctx, s, records(0, 3, 3)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if err := write(t.Context(), s, records(0, 3, 3)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(false); err != nil {
		t.Fatal(err)
	}
	equal(t, b.values(t), want(0, 0, 6))
}

func testClose(t *testing.T, b *bench) {
	for i := range 3 { // each goes on where the one before it ended
		s := b.open(t)
		if err := write(t.Context(), s, records(0, i*10, 10)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(false); err != nil {
			t.Fatal(err)
		}
		equal(t, b.values(t), want(0, 0, (i+1)*10))
	}
}

func testUpdate(t *testing.T, b *bench) {
	s := b.open(t)
	if err := write(t.Context(), s, records(0, 0, 1)); err != nil {
		t.Fatal(err)
	}
	next, other := b.spec, Spec{Stdout: &StdoutSpec{Format: Raw}}
	if next.File != nil {
		file := *next.File
		file.Durability, file.Mode = None, 0o600
		next.File = &file
	} else {
		other = Spec{File: &FileSpec{Path: "x", Format: Raw}}
	}
	if err := s.Update(next); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(other); err == nil {
		t.Error("a spec of another kind was taken")
	}
	if err := write(t.Context(), s, records(0, 1, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(false); err != nil {
		t.Fatal(err)
	}
	equal(t, b.values(t), want(0, 0, 2))
}

func testUnknownFormat(t *testing.T, b *bench) {
	spec := b.spec
	if spec.File != nil {
		spec.File.Format = "xml"
	} else {
		spec.Stdout.Format = "xml"
	}
	if s, err := Open(t.Context(), spec, Options{}); err == nil || s != nil {
		t.Errorf("got %v, %v, want an error", s, err)
	}
}
