package agent

import (
	"math"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// stats are what a consumer counts, over all its runs. Many goroutines write and read them.
type stats struct {
	records, bytes         atomic.Int64
	lastRecord, lastFlush  atomic.Int64 // Unix nanoseconds; 0 for never
	rebalances, restarts   atomic.Int64
	commitErrors           atomic.Int64
	sinkErrors             atomic.Int64
	offsetResets, stalls   atomic.Int64
	truncations            atomic.Int64
	starts                 atomic.Int64
	ledgerCopies           atomic.Int64
	flushSeconds           prometheus.Histogram
	rate                   atomic.Uint64 // records per second, as float bits; written by sample
	sampled, sampledAtNano int64         // only sample uses them
}

func newStats() stats {
	return stats{flushSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "kcagent_consumer_flush_duration_seconds",
		Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10},
	})}
}

// sample measures the rate since the last sample, smoothed over a few samples.
func (s *stats) sample(now int64) {
	records, since := s.records.Load(), now-s.sampledAtNano
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

func (s *stats) perSecond() float64 { return math.Float64frombits(s.rate.Load()) }
