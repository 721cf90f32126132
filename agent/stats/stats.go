// Package stats counts what a consumer does: [Stats] is written by many goroutines, and
// [Counters] is what the HTTP API shows.
package stats

import (
	"math"
	"sync/atomic"
	"time"
)

// Stats are what a consumer counts, over all its runs. Many goroutines write and read them.
type Stats struct {
	Records, Bytes         atomic.Int64
	LastRecord, LastFlush  atomic.Int64 // Unix nanoseconds; 0 for never
	Rebalances, Restarts   atomic.Int64
	CommitErrors           atomic.Int64
	SinkErrors             atomic.Int64
	OffsetResets, Stalls   atomic.Int64
	StalledPartitions      atomic.Int64 // now
	SkippedKeys            atomic.Int64 // records that were skipped because of their key
	SkippedValues          atomic.Int64 // records that were skipped because of their value
	DeadLetters            atomic.Int64 // records that were written to the dead-letter file
	Truncations            atomic.Int64
	Starts                 atomic.Int64
	LedgerCopies           atomic.Int64
	FlushSeconds           Histogram
	CommitSeconds          Histogram
	Objects, ObjectBytes   atomic.Int64  // that were uploaded
	UploadSeconds          Histogram     // one upload each
	rate                   atomic.Uint64 // records per second, as float bits; written by sample
	sampled, sampledAtNano int64         // only sample uses them
}

// Uploaded counts an object of some bytes whose upload took a time.
func (s *Stats) Uploaded(bytes int64, took time.Duration) {
	s.Objects.Add(1)
	s.ObjectBytes.Add(bytes)
	s.UploadSeconds.Observe(took.Seconds())
}

// New returns counters that are 0.
func New() Stats {
	return Stats{
		FlushSeconds: Histogram{bounds: flushBounds}, CommitSeconds: Histogram{bounds: commitBounds}, UploadSeconds: Histogram{bounds: uploadBounds},
	}
}

// Sample measures the rate since the last sample, smoothed over a few samples.
func (s *Stats) Sample(now int64) {
	records, since := s.Records.Load(), now-s.sampledAtNano
	if s.sampledAtNano != 0 && since > 0 {
		current := float64(records-s.sampled) / (float64(since) / 1e9)
		smooth := (s.perSecond() + current) / 2
		if smooth < 0.01 {
			smooth = 0
		}
		s.rate.Store(math.Float64bits(smooth))
	}
	s.sampled, s.sampledAtNano = records, now
}

func (s *Stats) perSecond() float64 { return math.Float64frombits(s.rate.Load()) }

// Counters are what a consumer has counted over all its runs.
type Counters struct {
	Records, Bytes       int64 // that the sink accepted; bytes of keys and values
	RecordsPerSecond     float64
	LastRecord           time.Time // zero for never
	LastFlush            time.Time // zero for never
	Rebalances, Restarts int64
	CommitErrors         int64
	SinkErrors           int64
	OffsetResets         int64
	Truncations          int64
	OffsetStarts         int64 // partitions for which the start policy was applied
	CheckpointCopies     int64
	Stalls               int64
	StalledPartitions    int64      // now
	SkippedKeys          int64      // records that were skipped because of their key
	SkippedValues        int64      // records that were skipped because of their value
	DeadLetters          int64      // records that were written to the dead-letter file
	FlushSeconds         *Histogram // live
	CommitSeconds        *Histogram // live
	Objects, ObjectBytes int64      // that were uploaded
	UploadSeconds        *Histogram // live; of single uploads
}

// Counters returns the present values.
func (s *Stats) Counters() Counters {
	return Counters{
		Records: s.Records.Load(), Bytes: s.Bytes.Load(), RecordsPerSecond: s.perSecond(),
		LastRecord: timeOf(s.LastRecord.Load()), LastFlush: timeOf(s.LastFlush.Load()),
		Rebalances: s.Rebalances.Load(), Restarts: s.Restarts.Load(),
		CommitErrors: s.CommitErrors.Load(), SinkErrors: s.SinkErrors.Load(),
		OffsetResets: s.OffsetResets.Load(), Truncations: s.Truncations.Load(),
		OffsetStarts: s.Starts.Load(), CheckpointCopies: s.LedgerCopies.Load(), Stalls: s.Stalls.Load(),
		StalledPartitions: s.StalledPartitions.Load(),
		FlushSeconds:      &s.FlushSeconds, CommitSeconds: &s.CommitSeconds,
		Objects: s.Objects.Load(), ObjectBytes: s.ObjectBytes.Load(), UploadSeconds: &s.UploadSeconds,
		SkippedKeys: s.SkippedKeys.Load(), SkippedValues: s.SkippedValues.Load(), DeadLetters: s.DeadLetters.Load(),
	}
}

// timeOf is zero for 0.
func timeOf(nano int64) (t time.Time) {
	if nano != 0 {
		t = time.Unix(0, nano)
	}
	return t
}
