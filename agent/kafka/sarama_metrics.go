package kafka

import "github.com/rcrowley/go-metrics"

// noMetrics is the registry of sarama's metrics for all connections. The agent does not read
// them, and a registry for each connection takes more than 1 KiB.
type noMetrics struct{}

// GetOrRegister implements [metrics.Registry]. With [metrics.UseNilMetrics], what it returns
// counts nothing.
func (noMetrics) GetOrRegister(_ string, metric any) any {
	switch create := metric.(type) {
	case func() metrics.Counter:
		return create()
	case func() metrics.Histogram:
		return create()
	case func() metrics.Meter:
		return create()
	}
	return metric
}

// The other methods implement [metrics.Registry].
func (noMetrics) Each(func(string, any))            {}
func (noMetrics) Get(string) any                    { return nil }
func (noMetrics) GetAll() map[string]map[string]any { return nil }
func (noMetrics) Register(string, any) error        { return nil }
func (noMetrics) RunHealthchecks()                  {}
func (noMetrics) Unregister(string)                 {}
func (noMetrics) UnregisterAll()                    {}

var _ metrics.Registry = noMetrics{}
