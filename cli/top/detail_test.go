package top

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/plan"
	"kcagent/agent/web"
	"kcagent/config"
)

// detailed is a consumer with everything that the details show.
func detailed() web.ConsumerStatus {
	c := web.ConsumerStatus{
		Name: "c-0003", Status: consumer.Failing, Desired: config.Running, Cluster: "main", Brokers: []string{"kafka-1:9092"}, Group: "g", Topics: []string{"orders", "refunds"},
		Sink: "file:/data/c.log", MemberIDs: []string{"m-1"}, Generation: 7, CreatedAt: noon.Add(-time.Hour), StatusSince: noon.Add(-time.Minute), RecordsTotal: 1_234_567,
		Lag: ptr[int64](99), LagSeconds: ptr(75.0), LastError: ptr("write /data/c.log: no space left"), LastFlushAt: ptr(noon.Add(-time.Second)),
		PendingChange: &web.PendingChange{Action: plan.Replace, Fields: []string{"group"}, Since: noon.Add(-time.Minute), Tries: 3, Error: ptr("group is not empty"), NextTryAt: ptr(noon.Add(8 * time.Second))},
	}
	for i := range 40 {
		c.Partitions = append(c.Partitions, web.PartitionStatus{Topic: "orders", Partition: int32(i), NextOffset: 1000 + int64(i), CommittedOffset: -1, HighWaterMark: 1099 + int64(i), Lag: ptr[int64](99)})
	}
	return c
}

func TestDetailsOfAConsumer(t *testing.T) {
	m := modelOf(many(30))
	if press(m, "enter") != fetch || m.detailName() != "c-0003" || !strings.Contains(screenOf(m), "c-0003: requesting") {
		t.Fatalf("Enter does not request the details of %q:\n%s", m.detailName(), screenOf(m))
	}
	d := detailed()
	m.receive(answer{at: noon, status: many(30), name: "c-0013", detail: &web.ConsumerStatus{Name: "late response"}})
	m.receive(answer{at: noon, status: many(30), name: "c-0003", detail: &d})
	m.width, m.height = 200, 80
	text := screenOf(m)
	for _, want := range []string{
		"kcagent 1.2.3 on host-1", "c-0003  ERROR since ", "(1m ago), desired: running", "error: write /data/c.log: no space left",
		"replace of group is pending: group is not empty", "pre-checks: 3, next in 8s", "main: kafka-1:9092", "orders, refunds", "m-1, generation 7",
		"99 records, lag time 1m, catch-up -", "1234567, ", "(1s ago)",
		"orders         39          1039          1138         99         -         -             -\n", "Esc back",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	m.height = 10
	if press(m, "end"); !strings.Contains(screenOf(m), " 39 ") || strings.Contains(screenOf(m), "late response") {
		t.Errorf("the last partition is not shown:\n%s", screenOf(m))
	}
	if press(m, "home"); strings.Contains(screenOf(m), " 39 ") {
		t.Error("Home does not scroll back")
	}
	// The consumer is terminated: its last values stay, and say so.
	gone := many(30)
	gone.Consumers = slices.Delete(gone.Consumers, 3, 4)
	m.receive(answer{at: noon, status: gone, name: "c-0003", detailErr: errors.New("the consumer was terminated")})
	if text := screenOf(m); !strings.Contains(text, "terminated") || !strings.Contains(text, "c-0003") {
		t.Errorf("%s", text)
	}
	if press(m, "esc"); m.view != tableView || m.detailName() != "" || selected(t, m) == "c-0003" {
		t.Error("Esc does not go back")
	}
}
