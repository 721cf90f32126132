package stats

import (
	"sync/atomic"

	dto "github.com/prometheus/client_model/go"
)

// bounds are the upper bounds of the buckets, in seconds, which all consumers share.
var (
	flushBounds  = []float64{.001, .005, .025, .1, .5, 2.5, 10}
	commitBounds = []float64{.005, .025, .1, .5, 2.5, 10}
	uploadBounds = []float64{.05, .25, 1, 5, 15, 60, 300}
)

// maxBuckets is the number of buckets that a histogram can have, with the last one that has
// no bound.
const maxBuckets = 8

// A Histogram counts durations. Many goroutines may use it at the same time. A histogram of
// Prometheus's library takes about 1 KiB, and each consumer has three.
type Histogram struct {
	bounds  []float64
	buckets [maxBuckets]atomic.Uint64 // of each bucket alone; the last used one has no bound
	sum     atomic.Int64              // in nanoseconds
}

// Observe counts a duration in seconds.
func (h *Histogram) Observe(seconds float64) {
	i := 0
	for i < len(h.bounds) && seconds > h.bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(seconds * 1e9))
}

// Metric returns the present values, in the form in which Prometheus scrapes them.
func (h *Histogram) Metric() *dto.Histogram {
	m := &dto.Histogram{Bucket: make([]*dto.Bucket, len(h.bounds))}
	memory := make([]struct {
		dto.Bucket
		count uint64
	}, len(h.bounds))
	var count uint64
	for i := range h.bounds {
		count += h.buckets[i].Load()
		b := &memory[i]
		b.count = count
		b.CumulativeCount, b.UpperBound = &b.count, &h.bounds[i]
		m.Bucket[i] = &b.Bucket
	}
	count += h.buckets[len(h.bounds)].Load()
	sum := float64(h.sum.Load()) / 1e9
	m.SampleCount, m.SampleSum = &count, &sum
	return m
}
