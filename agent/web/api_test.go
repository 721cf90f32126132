package web

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kcagent/agent/consumer"
	"kcagent/agent/lag"
	"kcagent/agent/stats"
	"kcagent/config"
	"kcagent/sink"
)

// An apiTest is an API that shows what a test publishes.
type apiTest struct {
	*API
	*testing.T
	published atomic.Pointer[Snapshot]
}

// A shownConsumer is a consumer of which there is only a snapshot.
type shownConsumer consumer.Snapshot

func (c *shownConsumer) Snapshot() consumer.Snapshot { return consumer.Snapshot(*c) }

func (c *shownConsumer) Brief() consumer.Snapshot {
	s := c.Snapshot()
	s.Partitions, s.Lag, s.Unpublished = nil, lag.Lag{}, sink.Objects{}
	return s
}

func (c *shownConsumer) SinkObjects() sink.Objects { return consumer.Snapshot(*c).Unpublished }

func (c *shownConsumer) TotalLag() lag.Lag { return consumer.Snapshot(*c).Lag }

func newAPITest(t *testing.T) *apiTest {
	t.Helper()
	a := &apiTest{T: t}
	a.API = New(Options{
		Log: slog.New(slog.DiscardHandler), Version: "1.2.3", Started: time.Now(), Snapshot: a.published.Load,
		Alive:      func(time.Duration) bool { return true },
		Collectors: []prometheus.Collector{prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kcagent_reconcile_duration_seconds"})},
	})
	a.published.Store(&Snapshot{})
	return a
}

// publish publishes these consumers of a file, each RUNNING or CREATED as its spec asks.
func (a *apiTest) publish(consumers string, change func(*Snapshot)) {
	a.Helper()
	file := "clusters: {main: {brokers: ['localhost:9092']}}\n" +
		"defaults: {cluster: main, topics: [t], sink: {file: {path: '/data/{name}.log'}}}\nconsumers:\n" + consumers
	c, problems := config.Parse("consumers.yaml", []byte(file), os.LookupEnv)
	if len(problems) > 0 {
		a.Fatal(problems)
	}
	s := &Snapshot{Config: c, Reloads: Reloads{Path: "consumers.yaml", SHA256: "abc", AppliedAt: time.Now(), Applied: 1}}
	for _, spec := range c.Consumers {
		shown := &shownConsumer{ID: "id-" + spec.Name, Name: spec.Name, State: steadyState[spec.State], Started: true}
		counted := stats.New()
		shown.Counters = counted.Counters()
		s.Rows = append(s.Rows, Row{ID: shown.ID, Spec: &spec, Consumer: shown})
	}
	if change != nil {
		change(s)
	}
	a.published.Store(s)
}

func get(t *testing.T, h http.Handler, method, path string) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, http.NoBody))
	resp := w.Result()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestAPIIsReadOnlyAndRepliesInJSON(t *testing.T) {
	a := newAPITest(t)
	a.publish("  - {name: a}\n  - {name: b, state: stopped}", nil)
	h := a.Handler()
	for _, path := range []string{
		"/status", "/status/a", "/list-consumers", "/threads", "/monitor-threads", "/config", "/config/diff", "/healthz", "/readyz",
	} {
		resp, body := get(t, h, http.MethodGet, path)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" || !json.Valid([]byte(body)) {
			t.Errorf("GET %s: %s %s\n%s", path, resp.Status, resp.Header, body)
		}
		if resp, _ := get(t, h, http.MethodHead, path); resp.StatusCode != http.StatusOK {
			t.Errorf("HEAD %s: %s", path, resp.Status)
		}
	}
	for _, path := range []string{"/status", "/metrics", "/nothing"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
			resp, body := get(t, h, method, path)
			if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") == "" || !strings.Contains(body, `"error"`) {
				t.Errorf("%s %s: %s %s", method, path, resp.Status, body)
			}
		}
	}
	for _, path := range []string{"/nothing", "/status/nobody", "/status/a/b"} {
		resp, body := get(t, h, http.MethodGet, path)
		if resp.StatusCode != http.StatusNotFound || !strings.Contains(body, `"error"`) {
			t.Errorf("GET %s: %s %s", path, resp.Status, body)
		}
	}
}

// statusKeys are the fields that other programs rely on.
const statusKeys = `agent.hostname agent.pid agent.started_at agent.version
config.applied_at config.file_sha256 config.path config.problems config.sha256 config.state
consumers.brokers consumers.bytes_total consumers.catch_up_seconds consumers.cluster consumers.created_at consumers.desired consumers.generation
consumers.group consumers.id consumers.recent_errors consumers.last_error_at consumers.lag consumers.lag_seconds consumers.last_error consumers.last_flush_at consumers.last_record_at
consumers.member_ids consumers.name consumers.objects consumers.partitions consumers.pending_change consumers.rebalances_total
consumers.records_per_second consumers.records_total consumers.restarts_total consumers.sink consumers.status
consumers.status_since consumers.topics
resources.cpu_seconds resources.goroutines resources.heap_bytes resources.memory_limit_bytes resources.open_fds
resources.os_threads resources.rss_bytes summary.RUNNING terminated.at terminated.clean terminated.name terminated.records_total`

func TestStatusHasEveryField(t *testing.T) {
	a := newAPITest(t)
	a.publish("  - {name: a}", func(s *Snapshot) { s.Terminated = []Ended{{Name: "gone"}} })
	_, body := get(t, a.Handler(), http.MethodGet, "/status")
	var status map[string]any
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatal(err)
	}
	for key := range strings.FieldsSeq(statusKeys) {
		block, field, _ := strings.Cut(key, ".")
		v := status[block]
		if list, ok := v.([]any); ok {
			v = list[0]
		}
		if m, ok := v.(map[string]any); !ok {
			t.Errorf("/status has no %s", block)
		} else if _, ok := m[field]; !ok {
			t.Errorf("/status has no %s", key)
		}
	}
	if p := reflect.TypeFor[PartitionStatus](); p.NumField() != 10 {
		t.Errorf("a partition has %d fields", p.NumField())
	}
}

// TestConfigStateFollowsTheConsumers: the configuration is synced once every consumer has
// reached its desired state, and rejected if the file has problems. A consumer in ERROR has
// applied the change.
func TestConfigStateFollowsTheConsumers(t *testing.T) {
	now := func(s *Snapshot) *shownConsumer { return s.Rows[0].Consumer.(*shownConsumer) }
	for name, tt := range map[string]struct {
		consumer string
		change   func(*Snapshot)
		want     string
	}{
		"running":        {"{name: a}", func(*Snapshot) {}, "synced"},
		"paused":         {"{name: a, state: paused}", func(*Snapshot) {}, "synced"},
		"stopped":        {"{name: a, state: stopped}", func(*Snapshot) {}, "synced"},
		"error":          {"{name: a}", func(s *Snapshot) { now(s).State = consumer.Failing }, "synced"},
		"starting":       {"{name: a}", func(s *Snapshot) { now(s).State = consumer.Starting }, "applying"},
		"stopping":       {"{name: a}", func(s *Snapshot) { now(s).State = consumer.Stopping }, "applying"},
		"not paused yet": {"{name: a, state: paused}", func(s *Snapshot) { now(s).State = consumer.Running }, "applying"},
		"resubscribing":  {"{name: a}", func(s *Snapshot) { now(s).Resubscribing = true }, "applying"},
		"stopped, and would resubscribe": {
			"{name: a, state: stopped}", func(s *Snapshot) { now(s).Resubscribing = true }, "synced",
		},
		"ending":            {"{name: a}", func(s *Snapshot) { s.Rows[0].Ending = true }, "applying"},
		"pending":           {"{name: a}", func(s *Snapshot) { s.Rows[0].Pending = &PendingChange{} }, "applying"},
		"pending and error": {"{name: a}", func(s *Snapshot) { now(s).State, s.Rows[0].Pending = consumer.Failing, &PendingChange{} }, "applying"},
		"problems":          {"{name: a}", func(s *Snapshot) { s.Reloads.Problems = config.Problems{{Line: 3}} }, "rejected"},
		"no configuration":  {"{name: a}", func(s *Snapshot) { s.Config = nil }, "applying"},
	} {
		a := newAPITest(t)
		a.publish("  - "+tt.consumer, tt.change)
		if got := a.Status().Config.State; got != tt.want {
			t.Errorf("%s: the configuration is %s, want %s", name, got, tt.want)
		}
	}
}

func TestHealthNeedsTheLoop(t *testing.T) {
	a := newAPITest(t)
	var waited time.Duration
	a.o.Alive = func(timeout time.Duration) bool { waited = timeout; return false }
	if resp, _ := get(t, a.Handler(), http.MethodGet, "/healthz"); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("healthy without a loop: %s", resp.Status)
	}
	if waited != aliveTimeout {
		t.Errorf("it waited %s", waited)
	}
}

func TestReadyOnlyWithAConfiguration(t *testing.T) {
	a := newAPITest(t)
	for _, path := range []string{"/readyz", "/config"} {
		if resp, _ := get(t, a.Handler(), http.MethodGet, path); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s before there is a configuration: %s", path, resp.Status)
		}
	}
}

func TestReadyIsLatched(t *testing.T) {
	a := newAPITest(t)
	if a.Ready() {
		t.Error("ready before a file was applied")
	}
	starting := func(s *Snapshot) { s.Rows[0].Consumer.(*shownConsumer).Started = false }
	a.publish("  - {name: a}", starting)
	if a.Ready() {
		t.Error("ready although a consumer has not left STARTING")
	}
	a.publish("  - {name: a}\n  - {name: b, state: stopped}", func(s *Snapshot) {
		s.Rows[1].Consumer.(*shownConsumer).Started = false
	})
	if !a.Ready() {
		t.Error("not ready although every consumer runs")
	}
	a.publish("  - {name: b}", starting)
	if !a.Ready() {
		t.Error("a later consumer made the agent unready")
	}
}

func TestMetrics(t *testing.T) {
	a := newAPITest(t)
	a.publish("  - {name: a}\n  - {name: gone}", nil)
	h := a.Handler()
	_, before := get(t, h, http.MethodGet, "/metrics")
	for _, line := range []string{
		`kcagent_build_info{go_version="` + goVersion + `",version="1.2.3"} 1`,
		`kcagent_config_last_reload_successful 1`,
		`kcagent_config_reloads_total{result="applied"} 1`,
		`kcagent_consumers{status="RUNNING"} 2`,
		`kcagent_consumer_status{consumer="gone",status="RUNNING"} 1`,
		`kcagent_consumer_status{consumer="gone",status="ERROR"} 0`,
		`kcagent_consumer_records_total{consumer="a"} 0`,
		`kcagent_consumer_flush_duration_seconds_count{consumer="a"} 0`,
		`kcagent_zombie_goroutines 0`,
	} {
		if !strings.Contains(before, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	for _, name := range []string{
		"config_last_reload_success_timestamp_seconds", "config_info", "reconcile_duration_seconds_bucket",
		"consumer_bytes_total", "consumer_commit_errors_total", "consumer_sink_errors_total",
		"consumer_rebalances_total", "consumer_restarts_total", "consumer_offset_resets_total", "consumer_checkpoint_copies_total",
	} {
		if !strings.Contains(before, "\nkcagent_"+name) {
			t.Errorf("no metric kcagent_%s", name)
		}
	}
	for _, name := range []string{"go_goroutines", "process_cpu_seconds_total"} {
		if !strings.Contains(before, "\n"+name+" ") {
			t.Errorf("no metric %s", name)
		}
	}
	a.publish("  - {name: a}", func(s *Snapshot) { s.Reloads.Rejected, s.Reloads.Problems = 1, config.Problems{{Line: 3}} })
	_, after := get(t, h, http.MethodGet, "/metrics")
	if strings.Contains(after, `"gone"`) {
		t.Error("a terminated consumer left series behind")
	}
	if !strings.Contains(after, "\nkcagent_config_last_reload_successful 0\n") ||
		!strings.Contains(after, "\nkcagent_config_reloads_total{result=\"rejected\"} 1\n") {
		t.Error("the rejected edit does not show")
	}
}

// TestMetricsOfPartitions: a lag that is unknown is null in /status, and has no series.
func TestMetricsOfPartitions(t *testing.T) {
	a := newAPITest(t)
	a.publish("  - {name: a}\n  - {name: b}\n  - {name: c}", func(s *Snapshot) {
		known := s.Rows[0].Consumer.(*shownConsumer)
		known.Partitions = []consumer.PartitionSnapshot{
			{Topic: "t", Partition: 0, NextOffset: 7, Lag: lag.Lag{Records: new(int64(2))}},
			{Topic: "t", Partition: 1, NextOffset: 9, Lag: lag.Lag{Records: new(int64(3)), Seconds: new(2.5)}},
		}
		known.Lag = lag.Lag{Records: new(int64(5)), Seconds: new(3.5), CatchUp: new(60.0)}
		s.Rows[2].Consumer.(*shownConsumer).Partitions = []consumer.PartitionSnapshot{{Topic: "t", Partition: 2, NextOffset: 11}}
	})
	_, text := get(t, a.Handler(), http.MethodGet, "/metrics")
	for _, line := range []string{
		`kcagent_consumer_assigned_partitions{consumer="a"} 2`,
		`kcagent_consumer_assigned_partitions{consumer="b"} 0`,
		`kcagent_consumer_lag_records{consumer="a"} 5`,
		`kcagent_consumer_lag_seconds{consumer="a"} 3.5`,
		`kcagent_consumer_catch_up_seconds{consumer="a"} 60`,
		`kcagent_partition_lag_seconds{consumer="a",partition="1",topic="t"} 2.5`,
		`kcagent_partition_next_offset{consumer="a",partition="1",topic="t"} 9`,
		`kcagent_partition_lag_records{consumer="a",partition="0",topic="t"} 2`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if !strings.Contains(text, `kcagent_partition_next_offset{consumer="c",partition="2",topic="t"} 11`) {
		t.Error("c has no position")
	}
	for _, unknown := range []string{
		`consumer_lag_records{consumer="b"`, `consumer_lag_records{consumer="c"`, `consumer_lag_seconds{consumer="b"`, `consumer_lag_seconds{consumer="c"`,
		`consumer_catch_up_seconds{consumer="b"`, `consumer_catch_up_seconds{consumer="c"`,
		`partition_lag_records{consumer="c"`, `partition_lag_seconds{consumer="c"`, `partition_lag_seconds{consumer="a",partition="0"`,
	} {
		if strings.Contains(text, "kcagent_"+unknown) {
			t.Errorf("a value that is unknown has the series %s", unknown)
		}
	}
	c := a.Status().Consumers
	if *c[0].Lag != 5 || *c[0].LagSeconds != 3.5 || *c[0].CatchUpSeconds != 60 || *c[0].Partitions[1].LagSeconds != 2.5 || *c[0].Partitions[1].Lag != 3 || c[0].Partitions[1].NextOffset != 9 {
		t.Errorf("/status has %+v", c[0])
	}
	for _, line := range []string{`"lag": null`, `"lag_seconds": null`, `"catch_up_seconds": null`} {
		if _, body := get(t, a.Handler(), http.MethodGet, "/status/c"); strings.Count(body, line) != 2 {
			t.Errorf("/status/c does not have %s for the consumer and its partition:\n%s", line, body)
		}
	}
}

// BenchmarkStatus shows a thousand consumers with ten partitions each.
func BenchmarkStatus(b *testing.B) {
	for name, path := range map[string]string{
		"full": "/status", "fields": "/status?fields=summary,consumers.name,consumers.status,consumers.lag", "page": "/status?limit=50",
	} {
		for _, encoding := range []string{"identity", "gzip"} {
			b.Run(name+"/"+encoding, func(b *testing.B) { benchmarkPage(b, path, 10, encoding) })
		}
	}
}
