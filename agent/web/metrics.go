package web

import (
	"log/slog"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
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
	metricBuildInfo   = describeMetric("build_info", "Version of the agent; always 1.")
	metricReloadOK    = describeMetric("config_last_reload_successful", "1 if the file as last read is in force, 0 if it was rejected.")
	metricReloadTime  = describeMetric("config_last_reload_success_timestamp_seconds", "When the configuration in force was applied.")
	metricReloads     = describeMetric("config_reloads_total", "Changes of the file that were read, by result.")
	metricConfigInfo  = describeMetric("config_info", "Hash of the configuration in force; always 1.")
	metricConsumers   = describeMetric("consumers", "Consumers by status.")
	metricStatus      = describeMetric("consumer_status", "1 for the status a consumer has, 0 for the others.")
	metricRecords     = describeMetric("consumer_records_total", "Records that the sink accepted.")
	metricBytes       = describeMetric("consumer_bytes_total", "Bytes of keys and values that the sink accepted.")
	metricLag         = describeMetric("consumer_lag_records", "Records between what the sink accepted and the end of the log, over the assigned partitions; absent while unknown.")
	metricLagTime     = describeMetric("consumer_lag_seconds", "Lag time: the age of the next record to be written, at most; the maximum over the assigned partitions. 0 without lag, absent while unknown.")
	metricCatchUp     = describeMetric("consumer_catch_up_seconds", "Catch-up time: seconds until the lag is 0, at the rate at which it falls now. 0 without lag, absent while unknown or while the lag does not fall.")
	metricLastRecord  = describeMetric("consumer_last_record_timestamp_seconds", "When the sink last accepted a record.")
	metricFlush       = describeHistogram("consumer_flush_duration_seconds", "Duration of a flush of the sink.")
	metricCommit      = describeHistogram("consumer_commit_duration_seconds", "Time from a commit of offsets until the response of the coordinator.")
	metricCommitErrs  = describeMetric("consumer_commit_errors_total", "Commits of offsets that failed.")
	metricSinkErrs    = describeMetric("consumer_sink_errors_total", "Writes and flushes of the sink that failed.")
	metricFree        = describeMetric("consumer_sink_free_bytes", "Free space of the file system to which the file sink writes, or with the spool folder of an objects sink, measured every few seconds; with a dead-letter file on another one, of the fuller of the two. Absent for other sinks, and while the file system does not respond.")
	metricSize        = describeMetric("consumer_sink_size_bytes", "Size of the file system of consumer_sink_free_bytes; absent whenever the free space is.")
	metricRebalances  = describeMetric("consumer_rebalances_total", "Generations of the group that the consumer joined.")
	metricRestarts    = describeMetric("consumer_restarts_total", "Times the consumer was restarted after an error.")
	metricStarts      = describeMetric("consumer_offset_starts_total", "Partitions without a committed offset for which the start policy was applied.")
	metricStalls      = describeMetric("consumer_stalls_total", "Stalled partitions for which the consumer was restarted.")
	metricAssigned    = describeMetric("consumer_assigned_partitions", "Partitions that are assigned to the consumer; 0 while it is not a member of its group.")
	metricStalled     = describeMetric("consumer_stalled_partitions", "Partitions that have records to read and have made no progress for stall_timeout without a known reason. They count until they make progress, over restarts of the consumer.")
	metricResets      = describeMetric("consumer_offset_resets_total", "Offsets out of range, recreated topics and truncated logs that were reset by policy, and committed offsets that were changed externally.")
	metricTruncs      = describeMetric("consumer_log_truncations_total", "Positions that moved back because the log was truncated, such as by an unclean leader election.")
	metricCopies      = describeMetric("consumer_checkpoint_copies_total", "Partitions whose checkpoint was a copy or a restored backup, or did not match the committed offset, so that the file may lack records that are committed.")
	metricPending     = describeMetric("consumer_change_pending", "1 while a change of the consumer waits for its pre-check.")
	metricSkipped     = describeMetric("consumer_skipped_records_total", "Records that could not be decoded and were not written, by reason: invalid_key or invalid_value.")
	metricDead        = describeMetric("consumer_dead_letters_total", "Records that could not be decoded and were written to the dead-letter file.")
	metricNext        = describeMetric("partition_next_offset", "Offset after the last record that the sink accepted.")
	metricPartLag     = describeMetric("partition_lag_records", "Records between what the sink accepted and the end of the log; absent while unknown.")
	metricPartLagTime = describeMetric("partition_lag_seconds", "Lag time: the age of the next record to be written, at most. 0 without lag, absent while unknown.")
	metricZombies     = describeMetric("zombie_goroutines", "Goroutines of consumers that did not stop in time.")
)

// gatherer gathers all that /metrics shows.
func (a *API) gatherer() prometheus.Gatherer {
	others := prometheus.NewRegistry()
	others.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	others.MustRegister(a.o.Collectors...)
	return gatherer{others, a.collect}
}

// collect adds all metrics of the agent and of its consumers.
func (a *API) collect(e *exposition) {
	snap := a.o.Snapshot()
	e.add(metricBuildInfo, 1, labelPair("go_version", goVersion), labelPair("version", a.o.Version))
	r := &snap.Reloads
	e.add(metricReloadOK, oneIf(len(r.Problems) == 0 && snap.Config != nil))
	if snap.Config != nil {
		e.add(metricReloadTime, seconds(r.AppliedAt))
		e.add(metricConfigInfo, 1, labelPair("sha256", r.SHA256))
	}
	e.add(metricReloads, float64(r.Applied), labelPair("result", "applied"))
	e.add(metricReloads, float64(r.Rejected), labelPair("result", "rejected"))

	summary := make(map[consumer.State]int)
	for i := range snap.Rows {
		row := &snap.Rows[i]
		s := row.Consumer.Snapshot()
		summary[s.State]++
		row.collect(&s, a.o.DiskSpace, e)
	}
	for i, s := range shownStates {
		e.add(metricConsumers, float64(summary[s]), statusLabels[i])
	}
	e.add(metricZombies, a.zombies.count(a.zombieGoroutines, a.o.Log))
}

// shownStates are the states of consumers in the table, which has no TERMINATED ones.
var shownStates = consumer.States[:len(consumer.States)-1]

// statusLabels are the labels of shownStates.
var statusLabels = func() (labels []*dto.LabelPair) {
	for _, s := range shownStates {
		labels = append(labels, labelPair("status", string(s)))
	}
	return labels
}()

// reasonKey and reasonValue say why records were skipped.
var reasonKey, reasonValue = labelPair("reason", "invalid_key"), labelPair("reason", "invalid_value")

func (r *Row) collect(s *consumer.Snapshot, disk func(path string) (free, size uint64, ok bool), e *exposition) {
	of := []*dto.LabelPair{labelPair("consumer", s.Name)}
	for i, state := range shownStates {
		e.add(metricStatus, oneIf(state == s.State), of[0], statusLabels[i])
	}
	e.add(metricRecords, float64(s.Records), of...)
	e.add(metricBytes, float64(s.Bytes), of...)
	e.add(metricRebalances, float64(s.Rebalances), of...)
	e.add(metricRestarts, float64(s.Restarts), of...)
	e.add(metricCommitErrs, float64(s.CommitErrors), of...)
	e.add(metricSinkErrs, float64(s.SinkErrors), of...)
	e.add(metricResets, float64(s.OffsetResets), of...)
	e.add(metricTruncs, float64(s.Truncations), of...)
	e.add(metricStarts, float64(s.OffsetStarts), of...)
	e.add(metricCopies, float64(s.CheckpointCopies), of...)
	e.add(metricStalls, float64(s.Stalls), of...)
	e.add(metricAssigned, float64(len(s.Partitions)), of...)
	e.add(metricStalled, float64(s.StalledPartitions), of...)
	e.add(metricSkipped, float64(s.SkippedKeys), of[0], reasonKey)
	e.add(metricSkipped, float64(s.SkippedValues), of[0], reasonValue)
	e.add(metricDead, float64(s.DeadLetters), of...)
	e.add(metricPending, oneIf(r.Pending != nil), of...)
	if !s.LastRecord.IsZero() {
		e.add(metricLastRecord, seconds(s.LastRecord), of...)
	}
	collectPartitions(s, of, e)
	if free, size, ok := r.fullestDisk(disk); ok {
		e.add(metricFree, free, of...)
		e.add(metricSize, size, of...)
	}
	e.addHistogram(metricCommit, s.CommitSeconds, of...)
	e.addHistogram(metricFlush, s.FlushSeconds, of...)
	r.collectObjects(s, of, e)
}

// fullestDisk returns the space of a file system. If the dead-letter file is on another one than
// the file or the spool folder of the sink, it returns the one with the smaller share of free space.
func (r *Row) fullestDisk(disk func(path string) (free, size uint64, ok bool)) (free, size float64, ok bool) {
	for _, s := range r.Spec.Sinks() {
		path := s.LocalPath()
		if path == "" || disk == nil {
			continue
		}
		if f, n, known := disk(path); known && (!ok || float64(f)*size < free*float64(n)) {
			free, size, ok = float64(f), float64(n), true
		}
	}
	return free, size, ok
}

// collectPartitions adds the metrics of the assigned partitions, and the lag.
func collectPartitions(s *consumer.Snapshot, of []*dto.LabelPair, e *exposition) {
	var topic *dto.LabelPair
	for i, p := range s.Partitions {
		if i == 0 || p.Topic != s.Partitions[i-1].Topic {
			topic = labelPair("topic", p.Topic)
		}
		ofPartition := []*dto.LabelPair{of[0], labelPair("partition", strconv.Itoa(int(p.Partition))), topic}
		e.add(metricNext, float64(p.NextOffset), ofPartition...)
		addKnown(e, metricPartLag, p.Lag.Records, ofPartition...)
		addKnown(e, metricPartLagTime, p.Lag.Seconds, ofPartition...)
	}
	addKnown(e, metricLag, s.Lag.Records, of...)
	addKnown(e, metricLagTime, s.Lag.Seconds, of...)
	addKnown(e, metricCatchUp, s.Lag.CatchUp, of...)
}

// addKnown adds a series, unless its value is unknown (nil): an unknown lag is not a lag of 0.
func addKnown[T int64 | float64](e *exposition, m *metric, v *T, labels ...*dto.LabelPair) {
	if v != nil {
		e.add(m, float64(*v), labels...)
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

// A zombieCounter counts the goroutines of zombies. A count needs a profile of all goroutines,
// which takes most of a second with a thousand consumers. So the counter runs in the background,
// and a scrape uses a count that is some seconds old.
type zombieCounter struct {
	last atomic.Pointer[zombieCount] // nil before the first

	mu       sync.Mutex
	counting chan struct{} // closed when the count in progress ends; nil if there is none
}

type zombieCount struct {
	goroutines float64
	at         time.Time
	took       time.Duration
}

const (
	// zombieAge is how long a count is used, at least. If a count takes long, it is used for
	// zombieRest times as long, so that counting costs at most a fiftieth of a processor.
	zombieAge  = 10 * time.Second
	zombieRest = 50
	// zombieWait is how long a scrape waits for a new count before it uses the last one.
	zombieWait = 20 * time.Millisecond
)

// count returns the last count, and starts a new one if that is too old.
func (z *zombieCounter) count(take func() (float64, error), log *slog.Logger) float64 {
	last := z.last.Load()
	if last != nil && time.Since(last.at) < max(zombieAge, zombieRest*last.took) {
		return last.goroutines
	}
	done := z.start(take, log)
	var limit <-chan time.Time // none for the first count
	if last != nil {
		t := time.NewTimer(zombieWait)
		defer t.Stop()
		limit = t.C
	}
	select {
	case <-done:
	case <-limit:
	}
	if last = z.last.Load(); last == nil {
		return 0
	}
	return last.goroutines
}

// start starts a count unless there is one in progress, and returns what is closed at its end.
func (z *zombieCounter) start(take func() (float64, error), log *slog.Logger) <-chan struct{} {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.counting != nil {
		return z.counting
	}
	done := make(chan struct{})
	z.counting = done
	go func() {
		began := time.Now()
		n, err := take()
		if err != nil {
			log.Warn("counting zombies failed", logkey.Error, err)
		} else {
			z.last.Store(&zombieCount{n, time.Now(), time.Since(began)})
		}
		z.mu.Lock()
		z.counting = nil
		z.mu.Unlock()
		close(done)
	}()
	return done
}

// zombieGoroutines counts the goroutines of zombies.
func (a *API) zombieGoroutines() (n float64, err error) {
	t, err := a.Threads()
	for _, z := range t.Zombies {
		n += float64(z.Goroutines)
	}
	return n, err
}
