package file

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"kcagent/limits"
	"kcagent/sink"
	"kcagent/sink/file/disk/disktest"
	"kcagent/sink/file/writer"
)

// TestRandomHistoryOfWindows: records of two partitions are written, flushed and committed, in any
// order with faults of the disk, crashes and rebalances. In the end each is once in the file of its
// time.
func TestRandomHistoryOfWindows(t *testing.T) {
	for seed := range uint64(150) {
		h := windowHistory{T: t, random: rand.New(rand.NewPCG(seed, 9)), test: newWindowsTest(sink.Uncompressed, 1+int(seed%4))}
		h.test.buffer = seed%2 == 0
		h.open()
		for range 150 {
			h.step()
		}
		h.finish()
		h.test.checkWindows(t, fmt.Sprintf("seed %d: %q", seed, h.log))
	}
}

// A windowHistory is the state of [TestRandomHistoryOfWindows].
type windowHistory struct {
	*testing.T
	random *rand.Rand
	test   *crashTest
	sink   sink.Sink
	at     [crashPartitions]int64
	log    []string
}

func (h *windowHistory) open() {
	files := writer.NewPool(limits.NewBudget(8))
	if h.test.buffer {
		files.BufferFrom = 0
	}
	s, err := openWith(h.Context(), h.test.spec, testOptions{FS: h.test.fs, Group: "g", pool: files, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.Fatal(err)
	}
	s.(*fileSink).maxWindows = h.test.windows
	h.sink = s
	for p := range h.at {
		h.resume(p)
	}
}

// resume continues at what is committed, as a new round does.
func (h *windowHistory) resume(p int) {
	for {
		h.at[p] = max(0, h.test.committed[p])
		err := resumeWindows(h.T, h.sink, int32(p), h.at[p])
		h.log = append(h.log, fmt.Sprint("resume ", p, h.at[p], err))
		if err == nil {
			return
		}
		h.expected(err)
		h.test.fs.Fault = nil
	}
}

func (h *windowHistory) expected(err error) {
	if err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, sink.ErrReopen) && !errors.Is(err, writer.ErrNoDescriptors) {
		h.Fatalf("%v after %q", err, h.log)
	}
}

func (h *windowHistory) write(p int) {
	n := min(1+h.random.IntN(7), crashRecords-int(h.at[p]))
	if n == 0 {
		return
	}
	n, err := h.test.write(h.T, h.sink, records(int32(p), int(h.at[p]), n))
	h.log = append(h.log, fmt.Sprint("write ", p, h.at[p], n, err))
	h.expected(err)
	switch {
	case err == nil:
		h.at[p] += int64(n)
	case errors.Is(err, sink.ErrReopen):
		h.resume(p)
	}
}

// flush flushes and, mostly, commits. It reports whether the records of all partitions are durable.
func (h *windowHistory) flush() bool {
	at := h.at
	err := h.sink.Flush(h.Context(), false)
	h.log = append(h.log, fmt.Sprint("flush ", err))
	h.expected(err)
	some, failed := errors.AsType[*sink.FlushError](err)
	if err != nil && !failed {
		return false
	}
	commits := h.random.IntN(3) > 0
	for p := range at {
		var of error
		if failed {
			of = some.Failed[sink.TopicPartition{Topic: "orders", Partition: int32(p)}]
		}
		switch {
		case errors.Is(of, sink.ErrReopen):
			h.resume(p)
		case of == nil && commits:
			h.test.committed[p] = at[p]
		}
	}
	return err == nil
}

func (h *windowHistory) step() {
	switch n := h.random.IntN(100); {
	case n < 60:
		h.write(h.random.IntN(crashPartitions))
	case n < 80:
		h.flush()
	case n < 86:
		odds := 1 + h.random.IntN(8)
		h.test.fs.Fault = func() error {
			if h.random.IntN(odds) == 0 {
				return syscall.EIO
			}
			return nil
		}
		h.log = append(h.log, fmt.Sprint("fault ", odds))
	case n < 92:
		h.test.fs.Fault = nil
	case n < 95:
		h.log = append(h.log, "rebalance")
		h.flush()
		h.expected(h.sink.Release())
		for p := range h.at {
			h.resume(p)
		}
	case n < 98:
		l := disktest.Losses[h.random.IntN(len(disktest.Losses))]
		h.log = append(h.log, "crash: "+l.Name)
		h.test.fs = h.test.fs.Crash(l)
		h.open()
	default:
		h.test.fs.Fault = nil
		h.log = append(h.log, "reopen")
		h.expected(h.sink.Close(false))
		h.open()
	}
}

// finish writes what is left until a flush has covered all records: a flush may report that records
// of an earlier one are lost.
func (h *windowHistory) finish() {
	h.test.fs.Fault = nil
	for flushed := false; !flushed; {
		for slices.ContainsFunc(h.at[:], func(n int64) bool { return n < crashRecords }) {
			for p := range h.at {
				h.write(p)
			}
		}
		flushed = h.flush()
	}
	if err := h.sink.Close(false); err != nil {
		h.Fatalf("%v after %q", err, h.log)
	}
}
