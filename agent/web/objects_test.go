package web

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/stats"
	"kcagent/sink"
)

// holding is what a sink holds for three partitions of the topic t: 0 has an object that grows and an
// upload that failed, 1 has an upload in progress that is older, 2 has no record yet.
func holding(now time.Time) sink.Objects {
	tp := func(n int32) sink.TopicPartition { return sink.TopicPartition{Topic: "t", Partition: n} }
	return sink.Objects{Spool: 1000, Open: 2, Partitions: map[sink.TopicPartition]sink.PartitionObjects{
		tp(0): {
			First: 20, Records: 5, Bytes: 300, Objects: 2, Since: now.Add(-time.Minute), DueAt: now.Add(time.Minute),
			Closed: &sink.Upload{
				First: 10, Next: 20, Records: 9, Bytes: 700, Objects: 3, Uploaded: 1, Planned: true,
				Since: now.Add(-2 * time.Minute), Retry: now.Add(time.Second), Error: "put x: access denied",
			},
		},
		tp(1): {First: 7, Closed: &sink.Upload{First: 0, Next: 7, Records: 7, Objects: 1, Since: now.Add(-time.Hour)}},
		tp(2): {First: 3},
	}}
}

// publishObjects publishes a consumer with an objects sink, and one with a file.
func publishObjects(a *apiTest, now time.Time) {
	a.publish("  - {name: lake}\n  - {name: disk}", func(s *Snapshot) {
		for i := range s.Rows {
			c := s.Rows[i].Consumer.(*shownConsumer)
			for n := range int32(4) {
				c.Partitions = append(c.Partitions, consumer.PartitionSnapshot{Topic: "t", Partition: n})
			}
		}
		s.Rows[0].Spec.Sink = sink.Spec{Objects: &sink.ObjectsSpec{URL: "s3://lake/kafka"}}
		c := s.Rows[0].Consumer.(*shownConsumer)
		counted := stats.New()
		counted.Uploaded(40, 2*time.Second)
		counted.Uploaded(2, time.Second)
		c.Counters, c.Unpublished = counted.Counters(), holding(now)
	})
}

// TestStatusShowsObjectsAndOpenPlans of each partition, and null for other sinks.
func TestStatusShowsObjectsAndOpenPlans(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	a := newAPITest(t)
	publishObjects(a, now)
	field := func(name, consumer string) string {
		t.Helper()
		_, body := get(t, a.Handler(), http.MethodGet, "/status/"+consumer+"?fields="+name)
		return strings.TrimSpace(body)
	}
	for name, want := range map[string]string{
		"sink":    `{"sink":"objects:s3://lake/kafka"}`,
		"objects": `{"objects":{"objects_total":2,"object_bytes_total":42,"open":2,"spool_bytes":1000,"open_plans":2}}`,
		"partitions.objects": `{"partitions":[` +
			`{"objects":{"open":2,"records":5,"bytes":300,"first_offset":20,"since":"2026-11-28T11:59:00Z","due_at":"2026-11-28T12:01:00Z"}},` +
			`{"objects":{"open":0,"records":0,"bytes":0,"first_offset":7,"since":null,"due_at":null}},` +
			`{"objects":{"open":0,"records":0,"bytes":0,"first_offset":3,"since":null,"due_at":null}},{"objects":null}]}`,
		"partitions.open_plan": `{"partitions":[{"open_plan":{"first_offset":10,"last_offset":19,"records":9,"objects":3,"uploaded":1,"planned":true,` +
			`"since":"2026-11-28T11:58:00Z","retry_at":"2026-11-28T12:00:01Z","error":"put x: access denied"}},` +
			`{"open_plan":{"first_offset":0,"last_offset":6,"records":7,"objects":1,"uploaded":0,"planned":false,"since":"2026-11-28T11:00:00Z","retry_at":null,"error":null}},` +
			`{"open_plan":null},{"open_plan":null}]}`,
	} {
		if got := field(name, "lake"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	const none = `{"objects":null,"partitions":[{"objects":null,"open_plan":null},{"objects":null,"open_plan":null},{"objects":null,"open_plan":null},{"objects":null,"open_plan":null}]}`
	if got := field("objects,partitions.objects,partitions.open_plan", "disk"); got != none {
		t.Errorf("a file sink has\n%s", got)
	}
	var whole struct{ Consumers []ConsumerStatus }
	_, body := get(t, a.Handler(), http.MethodGet, "/status")
	if err := json.Unmarshal([]byte(body), &whole); err != nil || whole.Consumers[0].Objects.OpenPlans != 2 || whole.Consumers[0].Partitions[0].OpenPlan.Uploaded != 1 {
		t.Errorf("%v: %s", err, body)
	}
}

// TestMetricsOfObjects: only consumers with an objects sink have them, and none once they are terminated.
func TestMetricsOfObjects(t *testing.T) {
	a := newAPITest(t)
	publishObjects(a, time.Now())
	_, text := get(t, a.Handler(), http.MethodGet, "/metrics")
	series := regexp.MustCompile(`(?m)^kcagent_(objects?_|spool_|open_).*$`)
	for _, want := range []string{
		`kcagent_objects_total{consumer="lake"} 2`, `kcagent_object_bytes_total{consumer="lake"} 42`,
		`kcagent_object_upload_duration_seconds_count{consumer="lake"} 2`, `kcagent_object_upload_duration_seconds_sum{consumer="lake"} 3`,
		`kcagent_object_upload_duration_seconds_bucket{consumer="lake",le="1"} 1`,
		`kcagent_spool_bytes{consumer="lake"} 1000`, `kcagent_open_buckets{consumer="lake"} 2`, `kcagent_open_plans{consumer="lake"} 2`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no line %s in\n%s", want, strings.Join(series.FindAllString(text, -1), "\n"))
		}
	}
	if !regexp.MustCompile(`(?m)^kcagent_open_plan_age_seconds\{consumer="lake"\} 360\d`).MatchString(text) {
		t.Error("the age of the oldest plan is not an hour")
	}
	for _, line := range series.FindAllString(text, -1) {
		if !strings.Contains(line, `{consumer="lake"`) {
			t.Errorf("another consumer has %s", line)
		}
	}
	// The sink has published everything.
	a.published.Load().Rows[0].Consumer.(*shownConsumer).Unpublished = sink.Objects{}
	_, text = get(t, a.Handler(), http.MethodGet, "/metrics")
	for _, want := range []string{`kcagent_open_plans{consumer="lake"} 0`, `kcagent_open_plan_age_seconds{consumer="lake"} 0`, `kcagent_spool_bytes{consumer="lake"} 0`} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	// The consumer is terminated.
	a.publish("  - {name: disk}", nil)
	_, text = get(t, a.Handler(), http.MethodGet, "/metrics")
	if left := series.FindAllString(text, -1); left != nil {
		t.Errorf("left are %q", left)
	}
}
