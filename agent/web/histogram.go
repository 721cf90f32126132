package web

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"kcagent/agent/consumer"
)

var goVersion = runtime.Version()

// A labelledHistogram shows a consumer's own histogram under the common name of the
// metric, with the consumer as a label. A histogram with labels would be shared by all
// consumers, and each would have to remove its own series.
type labelledHistogram struct {
	prometheus.Metric
	consumer string
}

// Desc implements [prometheus.Metric].
func (labelledHistogram) Desc() *prometheus.Desc { return descFlush }

// Write implements [prometheus.Metric].
func (h labelledHistogram) Write(m *dto.Metric) error {
	if err := h.Metric.Write(m); err != nil {
		return err
	}
	name := consumer.LabelConsumer
	m.Label = []*dto.LabelPair{{Name: &name, Value: &h.consumer}}
	return nil
}
