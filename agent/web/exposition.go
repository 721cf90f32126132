package web

import (
	"cmp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"kcagent/agent/stats"
)

// A metric is the description of one of the agent's own metrics.
type metric struct {
	index      int // in described
	name, help string
	kind       dto.MetricType
}

// described are all metrics that [describeMetric] has returned. It does not change once the
// program runs.
var described []*metric

// describeMetric describes a gauge, or a counter if its name ends in _total.
func describeMetric(name, help string) *metric {
	m := &metric{index: len(described), name: "kcagent_" + name, help: help, kind: dto.MetricType_GAUGE}
	if strings.HasSuffix(name, "_total") {
		m.kind = dto.MetricType_COUNTER
	}
	described = append(described, m)
	return m
}

// describeHistogram describes a histogram, which the consumers count themselves.
func describeHistogram(name, help string) *metric {
	m := describeMetric(name, help)
	m.kind = dto.MetricType_HISTOGRAM
	return m
}

// An exposition has the series of one scrape. A [prometheus.Registry] would check, copy and
// sort each series, which costs more than half of a scrape of a thousand consumers. The
// tests check instead that the names, types and labels fit together.
type exposition struct {
	families []*dto.MetricFamily // by the index of their metric
}

func newExposition() *exposition {
	e := &exposition{families: make([]*dto.MetricFamily, len(described))}
	for i, m := range described {
		e.families[i] = &dto.MetricFamily{Name: &m.name, Help: &m.help, Type: &m.kind}
	}
	return e
}

// A series is the memory of one series, so that it is allocated at once.
type series struct {
	dto.Metric
	gauge   dto.Gauge
	counter dto.Counter
	value   float64
}

// add adds a series of a gauge or a counter. It retains labels, which several series may
// share.
func (e *exposition) add(m *metric, v float64, labels ...*dto.LabelPair) {
	s := &series{value: v}
	s.Label = labels
	if m.kind == dto.MetricType_COUNTER {
		s.counter.Value = &s.value
		s.Counter = &s.counter
	} else {
		s.gauge.Value = &s.value
		s.Gauge = &s.gauge
	}
	f := e.families[m.index]
	f.Metric = append(f.Metric, &s.Metric)
}

// addHistogram adds the series of a histogram without labels.
func (e *exposition) addHistogram(m *metric, h *stats.Histogram, labels ...*dto.LabelPair) {
	f := e.families[m.index]
	f.Metric = append(f.Metric, &dto.Metric{Label: labels, Histogram: h.Metric()})
}

// labelPair returns a label. Prometheus rejects a whole scrape with one invalid value, so it
// replaces what is not UTF-8, such as in the name of a topic that a broker has invented.
func labelPair(name, value string) *dto.LabelPair {
	value = strings.ToValidUTF8(value, "\uFFFD")
	return &dto.LabelPair{Name: &name, Value: &value}
}

// A gatherer gathers the metrics of other collectors and the metrics of the agent.
type gatherer struct {
	others prometheus.Gatherer
	own    func(*exposition)
}

// Gather implements [prometheus.Gatherer].
func (g gatherer) Gather() ([]*dto.MetricFamily, error) {
	families, err := g.others.Gather()
	if err != nil {
		return nil, err
	}
	e := newExposition()
	g.own(e)
	for _, f := range e.families {
		if len(f.Metric) > 0 {
			families = append(families, f)
		}
	}
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return families, nil
}
