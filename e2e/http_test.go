package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"kcagent/e2e/agenttest"
	"kcagent/e2e/kafkatest"
)

// contract holds the shape of the JSON pages: the names and the kinds of values. A page
// may have more fields. null stands for any value, or none.
var contract = map[string]string{
	"/status": `{"agent": {"version": "", "hostname": "", "pid": 0, "started_at": ""},
 "config": {"path": "", "state": "", "sha256": "", "applied_at": "", "file_sha256": "",
            "problems": [{"file": "", "line": 0, "column": 0, "path": "", "message": "", "hint": ""}]},
 "summary": {"RUNNING": 0},
 "resources": {"goroutines": 0, "os_threads": 0, "open_fds": 0, "rss_bytes": 0, "heap_bytes": 0, "memory_limit_bytes": 0, "cpu_seconds": 0.0},
 "consumers": [{"id": "", "name": "", "status": "", "desired": "",
   "brokers": [""], "cluster": "", "group": "", "topics": [""], "sink": "", "member_ids": [""], "generation": 0,
   "created_at": "", "status_since": "", "records_total": 0, "bytes_total": 0, "records_per_second": 0.0, "lag": 0, "lag_seconds": 0.0, "catch_up_seconds": 0.0, "rebalances_total": 0, "restarts_total": 0,
   "last_record_at": null, "last_flush_at": null, "last_error": null, "last_error_at": null, "recent_errors": [{"at": "", "error": "", "count": 0}], "pending_change": null,
   "partitions": [{"topic": "", "partition": 0, "next_offset": 0, "committed_offset": 0, "high_water_mark": 0, "lag": 0, "lag_seconds": 0.0, "catch_up_seconds": 0.0}]}],
 "terminated": [{"name": "", "at": "", "clean": true, "records_total": 0}]}`,
	"/threads": `{"goroutines": 0, "os_threads": 0,
 "threads": [{"consumer": null, "recognized": true, "count": 0, "function": "", "state": ""}],
 "consumers": {"shown": 0}, "zombies": [{"consumer": "", "since": "", "goroutines": 0, "functions": [""]}]}`,
}

// TestHTTPKeepsItsContract checks pages, metrics, aliases and methods on one agent.
func TestHTTPKeepsItsContract(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	topic := s.newTopic(t, "shown", 1)
	s.Produce(t, kafkatest.Load{Topic: topic, Partitions: 1, Count: 10})
	shown, gone := s.entry("shown", topic), s.entry("gone", topic)
	good := s.config(shown)
	a := agenttest.Start(t, agenttest.Options{Config: s.config(shown, gone)})
	s.waitCommitted(t, a, gone, 10)
	a.Apply(good)
	s.waitCommitted(t, a, shown, 10)
	a.Write(good + "unknown: 1\n") // for an item of problems
	a.WaitStatus("a problem", func(st agenttest.Status) bool { return len(st.Config.Problems) > 0 })

	t.Run("shapes", func(t *testing.T) { checkShapes(t, a) })
	t.Run("aliases", func(t *testing.T) { checkAliases(t, a) })
	t.Run("pages", func(t *testing.T) { checkPages(t, a) })
	t.Run("read-only", func(t *testing.T) { checkReadOnly(t, a) })
	t.Run("metrics", func(t *testing.T) { checkMetrics(t, a) })

	c := a.Consumer("shown")
	if c.Sink != "file:"+shown.path || c.Cluster != "main" || c.Group != shown.group || c.Desired != "running" ||
		c.RecordsTotal != 10 || c.BytesTotal < 10 || len(c.Brokers) != 1 || len(c.Topics) != 1 || c.Topics[0] != topic {
		t.Errorf("the consumer is shown as %+v", c)
	}
	if len(c.Partitions) != 1 || !c.HasLag(0) {
		t.Fatalf("the consumer is shown as %+v", c)
	}
	p := c.Partitions[0]
	if p.Topic != topic || p.NextOffset != 10 || p.CommittedOffset != 10 || p.HighWaterMark != 10 || p.Lag == nil || *p.Lag != 0 {
		t.Errorf("its partition is shown as %+v", p)
	}
}

func checkShapes(t *testing.T, a *agenttest.Agent) {
	for path, text := range contract {
		var want, got any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		a.JSON(path, &got)
		for _, fault := range shapeDifferences(path, want, got) {
			t.Error(fault)
		}
	}
}

// shapeDifferences returns where got lacks something of want, or has it of another kind.
func shapeDifferences(at string, want, got any) (faults []string) {
	switch w := want.(type) {
	case nil:
		return nil
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s is %T, want an object", at, got)}
		}
		for name, value := range w {
			if _, is := g[name]; !is {
				faults = append(faults, fmt.Sprintf("%s has no %s", at, name))
				continue
			}
			faults = append(faults, shapeDifferences(at+"."+name, value, g[name])...)
		}
	case []any:
		g, ok := got.([]any)
		if !ok {
			return []string{fmt.Sprintf("%s is %T, want a list", at, got)}
		}
		for i := range g {
			faults = append(faults, shapeDifferences(fmt.Sprintf("%s[%d]", at, i), w[0], g[i])...)
		}
	default:
		if fmt.Sprintf("%T", want) != fmt.Sprintf("%T", got) {
			faults = append(faults, fmt.Sprintf("%s is %T, want %T", at, got, want))
		}
	}
	return faults
}

func checkAliases(t *testing.T, a *agenttest.Agent) {
	var list []agenttest.Consumer
	a.JSON("/list-consumers", &list)
	if len(list) != 1 || list[0].Name != "shown" {
		t.Errorf("/list-consumers shows %+v", list)
	}
	var th agenttest.Threads
	a.JSON("/monitor-threads", &th)
	if th.Consumers["shown"] == 0 {
		t.Errorf("/monitor-threads shows %+v", th)
	}
	var config struct {
		SHA256 string `json:"sha256"`
	}
	a.JSON("/config", &config)
	if config.SHA256 == "" || config.SHA256 != a.Status().Config.SHA256 {
		t.Errorf("/config has the hash %q, and /status another", config.SHA256)
	}
}

func checkPages(t *testing.T, a *agenttest.Agent) {
	for path, want := range map[string]struct {
		code int
		kind string
	}{
		"/status":          {200, "application/json"},
		"/status/shown":    {200, "application/json"},
		"/status/nobody":   {404, "application/json"},
		"/list-consumers":  {200, "application/json"},
		"/threads":         {200, "application/json"},
		"/monitor-threads": {200, "application/json"},
		"/config":          {200, "application/json"},
		"/metrics":         {200, "text/plain"},
		"/healthz":         {200, ""},
		"/readyz":          {200, ""},
		"/create-consumer": {404, "application/json"},
		"/nowhere/at/all":  {404, "application/json"},
	} {
		get, body := request(t, a, http.MethodGet, path)
		if get.StatusCode != want.code || !strings.HasPrefix(get.Header.Get("Content-Type"), want.kind) {
			t.Errorf("GET %s answers %d as %s, want %d as %s", path, get.StatusCode, get.Header.Get("Content-Type"), want.code, want.kind)
		}
		if want.code == http.StatusNotFound {
			var e struct{ Error string }
			if err := json.Unmarshal(body, &e); err != nil || e.Error == "" {
				t.Errorf("GET %s answers %s, want a JSON error", path, body)
			}
		}
		head, none := request(t, a, http.MethodHead, path)
		if head.StatusCode != want.code || len(none) > 0 {
			t.Errorf("HEAD %s answers %d with %d bytes, want %d with none", path, head.StatusCode, len(none), want.code)
		}
	}
}

func checkReadOnly(t *testing.T, a *agenttest.Agent) {
	before := a.Status()
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions} {
		for _, path := range []string{"/", "/status", "/status/shown", "/create-consumer", "/metrics", "/config"} {
			if resp, _ := request(t, a, method, path); resp.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s %s answers %d, want 405", method, path, resp.StatusCode)
			}
		}
	}
	after := a.Status()
	if before.Consumers[0].ID != after.Consumers[0].ID || before.Config.SHA256 != after.Config.SHA256 {
		t.Error("a request changed the state")
	}
}

func request(t *testing.T, a *agenttest.Agent, method, path string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, a.URL+path, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func checkMetrics(t *testing.T, a *agenttest.Agent) {
	m := a.Metrics()
	for _, series := range []string{
		"build_info", "config_last_reload_successful", "config_last_reload_success_timestamp_seconds", "config_reloads_total",
		"config_info", "reconcile_duration_seconds", "consumers", "zombie_goroutines",
	} {
		if _, ok := m.Value("kcagent_" + series); !ok {
			t.Errorf("kcagent_%s is missing", series)
		}
	}
	for name, want := range map[string]float64{
		"consumer_records_total": 10, "consumer_lag_records": 0, "consumer_commit_errors_total": 0,
		"consumer_sink_errors_total": 0, "consumer_restarts_total": 0, "consumer_offset_resets_total": 0,
		"partition_next_offset": 10, "partition_lag_records": 0, "partition_lag_seconds": 0,
		"consumer_lag_seconds": 0, "consumer_catch_up_seconds": 0,
	} {
		if got, ok := m.Value("kcagent_"+name, "consumer=shown"); !ok || got != want {
			t.Errorf("kcagent_%s is %v (%v), want %v", name, got, ok, want)
		}
	}
	for _, name := range []string{
		"consumer_bytes_total", "consumer_last_record_timestamp_seconds", "consumer_flush_duration_seconds", "consumer_rebalances_total",
	} {
		if got, ok := m.Value("kcagent_"+name, "consumer=shown"); !ok || got <= 0 {
			t.Errorf("kcagent_%s is %v (%v), want a positive value", name, got, ok)
		}
	}
	if v, _ := m.Value("kcagent_consumer_status", "consumer=shown", "status=RUNNING"); v != 1 {
		t.Errorf("kcagent_consumer_status of RUNNING is %v, want 1", v)
	}
	if v, ok := m.Value("kcagent_consumer_status", "consumer=shown", "status=ERROR"); !ok || v != 0 {
		t.Errorf("kcagent_consumer_status of ERROR is %v (%v), want 0", v, ok)
	}
	if left := m.Of("gone"); len(left) > 0 {
		t.Errorf("a removed consumer has series in %v", left)
	}
	for _, name := range []string{"go_goroutines", "process_open_fds"} {
		if _, ok := m.Value(name); !ok {
			t.Errorf("%s is missing", name)
		}
	}
}
