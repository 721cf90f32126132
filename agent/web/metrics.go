package web

import (
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"kcagent/agent/consumer"
	"kcagent/logkey"
)

var goVersion = runtime.Version()

// The metrics are computed from snapshots at each scrape, so a consumer that was terminated
// leaves no series behind, and reading records costs nothing for them.
var (
	descBuildInfo  = describeMetric("build_info", "Version of the agent; always 1.", "version", "go_version")
	descReloadOK   = describeMetric("config_last_reload_successful", "1 if the file as last read is in force, 0 if it was rejected.")
	descReloadTime = describeMetric("config_last_reload_success_timestamp_seconds", "When the configuration in force was applied.")
	descReloads    = describeMetric("config_reloads_total", "Changes of the file that were read, by result.", "result")
	descConfigInfo = describeMetric("config_info", "Hash of the configuration in force; always 1.", "sha256")
	descConsumers  = describeMetric("consumers", "Consumers by status.", "status")
	descStatus     = describeMetric("consumer_status", "1 for the status a consumer has, 0 for the others.", "consumer", "status")
	descRecords    = describeMetric("consumer_records_total", "Records that the sink accepted.", "consumer")
	descBytes      = describeMetric("consumer_bytes_total", "Bytes of keys and values that the sink accepted.", "consumer")
	descLag        = describeMetric("consumer_lag_records", "Records between what the sink accepted and the end of the log, over the assigned partitions; absent while unknown.", "consumer")
	descLagAge     = describeMetric("consumer_lag_seconds", "Age of the next record to be written, at most; the maximum over the assigned partitions. 0 without lag, absent while unknown.", "consumer")
	descCatchUp    = describeMetric("consumer_catch_up_seconds", "Time until the lag is 0, at the rate at which it falls now. 0 without lag, absent while unknown or while the lag does not fall.", "consumer")
	descLastRecord = describeMetric("consumer_last_record_timestamp_seconds", "When the sink last accepted a record.", "consumer")
	descFlush      = describeMetric("consumer_flush_duration_seconds", "Duration of a flush of the sink.", "consumer")
	descCommitErrs = describeMetric("consumer_commit_errors_total", "Commits of offsets that failed.", "consumer")
	descSinkErrs   = describeMetric("consumer_sink_errors_total", "Writes and flushes of the sink that failed.", "consumer")
	descRebalances = describeMetric("consumer_rebalances_total", "Generations of the group that the consumer joined.", "consumer")
	descRestarts   = describeMetric("consumer_restarts_total", "Times the consumer was restarted after an error.", "consumer")
	descStarts     = describeMetric("consumer_offset_starts_total", "Partitions without a committed offset for which the start policy was applied.", "consumer")
	descStalls     = describeMetric("consumer_stalls_total", "Stalled partitions for which the consumer was restarted.", "consumer")
	descResets     = describeMetric("consumer_offset_resets_total", "Offsets out of range, recreated topics and truncated logs that were reset by policy, and committed offsets that were changed externally.", "consumer")
	descTruncs     = describeMetric("consumer_log_truncations_total", "Positions that moved back because the log was truncated, such as by an unclean leader election.", "consumer")
	descCopies     = describeMetric("consumer_checkpoint_copies_total", "Partitions whose checkpoint was a copy or a restored backup, or did not match the committed offset, so that the file may lack records that are committed.", "consumer")
	descPending    = describeMetric("consumer_change_pending", "1 while a change of the consumer waits for its pre-check.", "consumer")
	descNext       = describeMetric("partition_next_offset", "Offset after the last record that the sink accepted.", "consumer", "topic", "partition")
	descPartLag    = describeMetric("partition_lag_records", "Records between what the sink accepted and the end of the log; absent while unknown.", "consumer", "topic", "partition")
	descPartLagAge = describeMetric("partition_lag_seconds", "Age of the next record to be written, at most. 0 without lag, absent while unknown.", "consumer", "topic", "partition")
	descZombies    = describeMetric("zombie_goroutines", "Goroutines of consumers that did not stop in time.")
	allDescs       = []*prometheus.Desc{
		descBuildInfo, descReloadOK, descReloadTime, descReloads, descConfigInfo, descConsumers, descStatus, descRecords,
		descBytes, descLag, descLagAge, descCatchUp, descLastRecord, descFlush, descCommitErrs, descSinkErrs, descRebalances, descRestarts,
		descResets, descTruncs, descStarts, descCopies, descStalls, descPending, descNext, descPartLag, descPartLagAge, descZombies,
	}
)

func describeMetric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("kcagent_"+name, help, labels, nil)
}

func (a *API) collectors() []prometheus.Collector {
	return append([]prometheus.Collector{
		collector{a}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}, a.o.Collectors...)
}

// A collector computes all metrics of the agent and of its consumers.
type collector struct{ api *API }

// Describe implements [prometheus.Collector].
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range allDescs {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	snap := c.api.o.Snapshot()
	gauge, counter := emitter(ch, prometheus.GaugeValue), emitter(ch, prometheus.CounterValue)

	gauge(descBuildInfo, 1, c.api.o.Version, goVersion)
	r := &snap.Reloads
	gauge(descReloadOK, oneIf(len(r.Problems) == 0 && snap.Config != nil))
	if snap.Config != nil {
		gauge(descReloadTime, seconds(r.AppliedAt))
		gauge(descConfigInfo, 1, r.SHA256)
	}
	counter(descReloads, float64(r.Applied), "applied")
	counter(descReloads, float64(r.Rejected), "rejected")

	summary := make(map[consumer.State]int)
	for i := range snap.Rows {
		row := &snap.Rows[i]
		s := row.Consumer.Snapshot()
		summary[s.State]++
		row.collect(&s, gauge, counter)
		ch <- labelledHistogram{s.FlushSeconds, s.Name}
	}
	for _, s := range consumer.States[:len(consumer.States)-1] { // TERMINATED ones are in no table
		gauge(descConsumers, float64(summary[s]), string(s))
	}
	gauge(descZombies, c.api.zombieGoroutines())
}

type emit func(d *prometheus.Desc, v float64, labels ...string)

func emitter(ch chan<- prometheus.Metric, kind prometheus.ValueType) emit {
	return func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
}

func (r *Row) collect(s *consumer.Snapshot, gauge, counter emit) {
	for _, state := range consumer.States[:len(consumer.States)-1] {
		gauge(descStatus, oneIf(state == s.State), s.Name, string(state))
	}
	counter(descRecords, float64(s.Records), s.Name)
	counter(descBytes, float64(s.Bytes), s.Name)
	counter(descRebalances, float64(s.Rebalances), s.Name)
	counter(descRestarts, float64(s.Restarts), s.Name)
	counter(descCommitErrs, float64(s.CommitErrors), s.Name)
	counter(descSinkErrs, float64(s.SinkErrors), s.Name)
	counter(descResets, float64(s.OffsetResets), s.Name)
	counter(descTruncs, float64(s.Truncations), s.Name)
	counter(descStarts, float64(s.OffsetStarts), s.Name)
	counter(descCopies, float64(s.CheckpointCopies), s.Name)
	counter(descStalls, float64(s.Stalls), s.Name)
	gauge(descPending, oneIf(r.Pending != nil), s.Name)
	if !s.LastRecord.IsZero() {
		gauge(descLastRecord, seconds(s.LastRecord), s.Name)
	}
	for _, p := range s.Partitions {
		id := strconv.Itoa(int(p.Partition))
		gauge(descNext, float64(p.NextOffset), s.Name, p.Topic, id)
		known(gauge, descPartLag, p.Lag.Records, s.Name, p.Topic, id)
		known(gauge, descPartLagAge, p.Lag.Seconds, s.Name, p.Topic, id)
	}
	known(gauge, descLag, s.Lag.Records, s.Name)
	known(gauge, descLagAge, s.Lag.Seconds, s.Name)
	known(gauge, descCatchUp, s.Lag.CatchUp, s.Name)
}

// known emits a value unless it is unknown: an unknown lag is not a lag of 0.
func known[T int64 | float64](to emit, d *prometheus.Desc, v *T, labels ...string) {
	if v != nil {
		to(d, float64(*v), labels...)
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is t in seconds since 1970.
func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

// zombieAge is how long a count of zombies is used. Counting takes a profile of all
// goroutines, which is too expensive to do for each of several scrapers.
const zombieAge = 10 * time.Second

type zombieCount struct {
	goroutines float64
	at         time.Time
}

func (a *API) zombieGoroutines() float64 {
	if have := a.zombies.Load(); have != nil && time.Since(have.at) < zombieAge {
		return have.goroutines
	}
	t, err := a.Threads()
	if err != nil {
		a.o.Log.Warn("counting zombies failed", logkey.Error, err)
		return 0
	}
	now := &zombieCount{at: time.Now()}
	for _, z := range t.Zombies {
		now.goroutines += float64(z.Goroutines)
	}
	a.zombies.Store(now)
	return now.goroutines
}

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
