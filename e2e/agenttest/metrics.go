package agenttest

import (
	"bytes"
	"net/http"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Metrics holds /metrics by family name.
type Metrics map[string]*dto.MetricFamily

// Metrics reads /metrics.
func (a *Agent) Metrics() Metrics {
	a.t.Helper()
	code, body := a.Get("/metrics")
	if code != http.StatusOK {
		a.t.Fatalf("GET /metrics: code %d: %s", code, body)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		a.t.Fatalf("read /metrics: %v", err)
	}
	return families
}

// Value returns the value of the series of a family whose labels include the given ones,
// such as "consumer=orders", and false if no series does. The value of a histogram is its
// count.
func (m Metrics) Value(family string, labels ...string) (float64, bool) {
	f := m[family]
	if f == nil {
		return 0, false
	}
next:
	for _, s := range f.Metric {
		for _, want := range labels {
			name, value, _ := strings.Cut(want, "=")
			if got, ok := labelOf(s, name); !ok || got != value {
				continue next
			}
		}
		switch {
		case s.Gauge != nil:
			return s.Gauge.GetValue(), true
		case s.Counter != nil:
			return s.Counter.GetValue(), true
		case s.Histogram != nil:
			return float64(s.Histogram.GetSampleCount()), true
		}
		return s.GetUntyped().GetValue(), true
	}
	return 0, false
}

// Of returns the names of the families that have a series of a consumer.
func (m Metrics) Of(consumer string) []string {
	var names []string
	for name, f := range m {
		for _, s := range f.Metric {
			if got, ok := labelOf(s, "consumer"); ok && got == consumer {
				names = append(names, name)
				break
			}
		}
	}
	return names
}

func labelOf(s *dto.Metric, name string) (string, bool) {
	for _, l := range s.Label {
		if l.GetName() == name {
			return l.GetValue(), true
		}
	}
	return "", false
}
