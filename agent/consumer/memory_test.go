package consumer

import (
	"log/slog"
	"runtime"
	"testing"

	"kcagent/agent/kafka"
	"kcagent/agent/outage"
	"kcagent/config"
)

// TestConsumerIsSmall: an agent may have thousands of consumers. A consumer shares its spec
// with the table of the agent, and has no histograms of Prometheus's library.
func TestConsumerIsSmall(t *testing.T) {
	const n, limit = 1000, 2400 // bytes; a copy of the spec or a histogram is 500 or more
	log := slog.New(slog.DiscardHandler)
	clusters, outages := &kafka.Clusters{}, outage.NewLog(log)
	spec := &config.Consumer{Name: "c"}
	all := make([]*Consumer, n)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range all {
		all[i] = New(spec, log, nil, clusters, outages)
	}
	runtime.ReadMemStats(&after)
	if all[0].spec.Load() != spec {
		t.Error("the spec was copied")
	}
	if each := (after.TotalAlloc - before.TotalAlloc) / n; each > limit {
		t.Errorf("a consumer takes %d bytes, want at most %d", each, limit)
	} else {
		t.Logf("a consumer takes %d bytes", each)
	}
	runtime.KeepAlive(all)
}
