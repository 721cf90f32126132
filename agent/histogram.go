package agent

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

var goVersion = runtime.Version()

// relabelled shows a histogram that a consumer keeps for itself under the
// metric's common name, with the consumer's as a label.
type relabelled struct {
	prometheus.Metric
	consumer string
}

// Desc implements prometheus.Metric.
func (relabelled) Desc() *prometheus.Desc { return descFlush }

// Write implements prometheus.Metric.
func (r relabelled) Write(m *dto.Metric) error {
	if err := r.Metric.Write(m); err != nil {
		return err
	}
	name := labelConsumer
	m.Label = []*dto.LabelPair{{Name: &name, Value: &r.consumer}}
	return nil
}
