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

// TestDetailsShowObjectsAndOpenPlans: which objects grow, how large they are and when they are
// published, and which plans are open, with the error and the time of the next attempt.
func TestDetailsShowObjectsAndOpenPlans(t *testing.T) {
	m := modelOf(many(5))
	press(m, "enter")
	name := m.detailName()
	c := web.ConsumerStatus{Name: name, Objects: &web.ObjectsStatus{Total: 7, BytesTotal: 3 << 20, Open: 3, SpoolBytes: 1536, OpenPlans: 1}}
	c.Partitions = []web.PartitionStatus{
		{Topic: "orders", Objects: &web.PartitionObjects{Open: 2, Records: 55, Bytes: 1024, FirstOffset: 120, DueAt: ptr(noon.Add(4 * time.Minute))}},
		{
			Topic: "orders", Partition: 1, Objects: &web.PartitionObjects{Open: 1, Records: 1, Bytes: 100, FirstOffset: 20},
			OpenPlan: &web.OpenPlan{FirstOffset: 10, LastOffset: 19, Records: 9, Objects: 3, Uploaded: 1, Since: noon.Add(-time.Minute), RetryAt: ptr(noon.Add(8 * time.Second)), Error: ptr("put x: access denied\x1b")},
		},
		{Topic: "orders", Partition: 2, Objects: &web.PartitionObjects{}},
	}
	m.receive(answer{at: noon, status: many(5), name: name, detail: &c})
	m.width, m.height = 200, 80
	text := screenOf(m)
	for _, want := range []string{
		"published      7, 3.0 MiB", "not published  3 open objects, 1.5 KiB in the spool, plans open for 1 partitions",
		"TOPIC   PARTITION  FIRST  OPEN OBJECTS  RECORDS     SIZE  PUBLISHED IN",
		"orders          0    120             2       55  1.0 KiB            4m",
		"orders          1     20             1        1    100 B             -",
		"TOPIC   PARTITION  OPEN PLAN  UPLOADED  RECORDS  SINCE  RETRY IN",
		"orders          1   10 to 19    1 of 3        9     1m        8s\nput x: access denied\uFFFD\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	c.Objects = nil
	if text := screenOf(m); strings.Contains(text, "OPEN OBJECTS") || strings.Contains(text, "published") {
		t.Errorf("a consumer with another sink has objects:\n%s", text)
	}
	c.Objects, c.Partitions = &web.ObjectsStatus{}, c.Partitions[2:]
	if text := screenOf(m); !strings.Contains(text, "no object is open") || !strings.Contains(text, "no plan is open") {
		t.Errorf("%s", text)
	}
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
