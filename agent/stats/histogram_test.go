package stats

import (
	"runtime"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// TestHistogramIsLikePrometheus compares a histogram with that of Prometheus's library, also
// for durations that are equal to a bound.
func TestHistogramIsLikePrometheus(t *testing.T) {
	for _, bounds := range [][]float64{flushBounds, commitBounds, uploadBounds} {
		want := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Buckets: bounds})
		h := Histogram{bounds: bounds}
		for _, v := range append([]float64{0, .0005, .0051, .3, 11, 100}, bounds...) {
			want.Observe(v)
			h.Observe(v)
		}
		var m dto.Metric
		if err := want.Write(&m); err != nil {
			t.Fatal(err)
		}
		got := h.Metric()
		if got.GetSampleCount() != m.Histogram.GetSampleCount() || len(got.Bucket) != len(m.Histogram.Bucket) {
			t.Fatalf("got %v\nwant %v", got, m.Histogram)
		}
		if d := got.GetSampleSum() - m.Histogram.GetSampleSum(); d < -1e-6 || d > 1e-6 {
			t.Errorf("the sum is %v, want %v", got.GetSampleSum(), m.Histogram.GetSampleSum())
		}
		for i, b := range got.Bucket {
			if w := m.Histogram.Bucket[i]; b.GetUpperBound() != w.GetUpperBound() || b.GetCumulativeCount() != w.GetCumulativeCount() {
				t.Errorf("bucket %v, want %v", b, w)
			}
		}
	}
}

// TestStatsAreSmall: a thousand consumers have a thousand of them.
func TestStatsAreSmall(t *testing.T) {
	const n = 1000
	all := make([]*Stats, n)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range all {
		s := New()
		all[i] = &s
	}
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(all)
	if each := (after.TotalAlloc - before.TotalAlloc) / n; each > 600 {
		t.Errorf("the statistics of a consumer take %d bytes", each)
	}
}
