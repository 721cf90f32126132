package agent

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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

func TestHTTPIsReadOnlyAndSpeaksJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := play(t, Options{})
		defer stop()
		s.edit("  - {name: a}\n  - {name: b, state: stopped}")
		h := s.agent.Handler()
		for _, path := range []string{
			"/status", "/status/a", "/list-consumers", "/threads", "/monitor-threads", "/config", "/healthz", "/readyz",
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
	})
}

// statusKeys are the fields that other programs rely on.
const statusKeys = `agent.hostname agent.pid agent.started_at agent.version
config.applied_at config.file_sha256 config.path config.problems config.sha256 config.state
consumers.brokers consumers.bytes_total consumers.cluster consumers.created_at consumers.desired consumers.generation
consumers.group consumers.id consumers.lag consumers.last_error consumers.last_flush_at consumers.last_record_at
consumers.member_ids consumers.name consumers.partitions consumers.pending_change consumers.rebalances_total
consumers.records_per_second consumers.records_total consumers.restarts_total consumers.sink consumers.status
consumers.status_since consumers.topics
resources.cpu_seconds resources.goroutines resources.heap_bytes resources.memory_limit_bytes resources.open_fds
resources.os_threads resources.rss_bytes summary.RUNNING terminated.at terminated.clean terminated.name terminated.records_total`

func TestStatusHasEveryField(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := play(t, Options{})
		defer stop()
		s.edit("  - {name: a}\n  - {name: gone}")
		s.edit("  - {name: a}")
		_, body := get(t, s.agent.Handler(), http.MethodGet, "/status")
		var status map[string]any
		if err := json.Unmarshal([]byte(body), &status); err != nil {
			t.Fatal(err)
		}
		for _, key := range strings.Fields(statusKeys) {
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
		if p := reflect.TypeFor[PartitionStatus](); p.NumField() != 6 {
			t.Errorf("a partition has %d fields", p.NumField())
		}
	})
}

func TestReadyOnlyWithAConfiguration(t *testing.T) {
	a := New(Options{})
	if resp, _ := get(t, a.Handler(), http.MethodGet, "/readyz"); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("ready without a configuration: %s", resp.Status)
	}
	if resp, _ := get(t, a.Handler(), http.MethodGet, "/config"); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a configuration before there is one: %s", resp.Status)
	}
}

func TestHealthNeedsTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(Options{})
		began := time.Now()
		if resp, _ := get(t, a.Handler(), http.MethodGet, "/healthz"); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("healthy without a loop: %s", resp.Status)
		}
		if d := time.Since(began); d != aliveTimeout {
			t.Errorf("it waited %s", d)
		}
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, stop := play(t, Options{Version: "1.2.3"})
		defer stop()
		s.edit("  - {name: a}\n  - {name: gone}")
		_, before := get(t, s.agent.Handler(), http.MethodGet, "/metrics")
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
		s.edit("  - {name: a}")
		s.badEdit()
		_, after := get(t, s.agent.Handler(), http.MethodGet, "/metrics")
		if strings.Contains(after, `"gone"`) {
			t.Error("a terminated consumer left series behind")
		}
		if !strings.Contains(after, "\nkcagent_config_last_reload_successful 0\n") ||
			!strings.Contains(after, "\nkcagent_config_reloads_total{result=\"rejected\"} 1\n") {
			t.Error("the rejected edit does not show")
		}
	})
}
