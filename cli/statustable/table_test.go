package statustable

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/plan"
	"kcagent/agent/web"
	"kcagent/config"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestNumbersHaveAtMostFiveCharacters(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0", 0.04: "0.0", 7: "7", 12.34: "12.3", 123.4: "123", 999: "999", 1000: "1.0k", 12_345: "12.3k", 999_949: "1000k",
		1e6: "1.0M", 98_765_432_100: "98.8G", 5e15: "5000T",
	} {
		if got := Figure(n); got != want {
			t.Errorf("%v is %q, want %q", n, got, want)
		}
	}
}

func TestSizesHaveTheirLargestUnit(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 200 << 10: "200 KiB", 5 << 20: "5.0 MiB", 3 << 40: "3.0 TiB", 5000 << 40: "5000 TiB"} {
		if got := Size(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

// TestOpenPlansAreNoted below their consumer, and only while there are any.
func TestOpenPlansAreNoted(t *testing.T) {
	c := one("lake", consumer.Running)
	c.Objects = &web.ObjectsStatus{Open: 3, SpoolBytes: 2048}
	if n := Notes(&c); n != nil {
		t.Errorf("without open plans: %v", n)
	}
	c.Objects.OpenPlans = 2
	if got, want := fmt.Sprint(Notes(&c)), "[{3 open objects, 2.0 KiB in the spool, plans open for 2 partitions true}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTimesHaveTheirLargestUnit(t *testing.T) {
	for seconds, want := range map[float64]string{
		-1: "0s", 0: "0s", 0.2: "<1s", 1.9: "1s", 59: "59s", 60: "1m", 3599: "59m", 3600: "1h", 172_799: "47h", 172_800: "2d", 1e12: ">999d",
	} {
		if got := Span(&seconds); got != want {
			t.Errorf("%v is %q, want %q", seconds, got, want)
		}
	}
	if Span(nil) != "-" || Count(nil) != "-" {
		t.Error("unknown is not shown as -")
	}
}

func TestTerminalsInterpretNothing(t *testing.T) {
	for text, want := range map[string]string{
		"plain – ü 日本": "plain – ü 日本", "a\x1b[2Jb": "a�[2Jb", "a\x00\x7f\u009b31m": "a���31m", "bell\a": "bell�",
		"two\nlines\r\tand\v more": "two lines and more", "\u202egpj.exe": "�gpj.exe", "bad \xff": "bad �",
	} {
		if got := Clean(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	hostile := "\x1b]0;owned\a\x1b[2J\u202e"
	s := web.Status{
		Config: web.ConfigStatus{Path: hostile, State: hostile, Problems: config.Problems{{File: hostile, Path: hostile, Message: hostile, Hint: hostile}}},
		Consumers: []web.ConsumerStatus{{
			Name: hostile, Status: consumer.State(hostile), Group: hostile, Sink: hostile, LastError: &hostile,
			PendingChange: &web.PendingChange{Action: plan.Op(hostile), Fields: []string{hostile}, Error: &hostile},
		}},
	}
	if table := Render(s, noon, 300, false); strings.ContainsAny(table, "\x1b\a\u202e") {
		t.Errorf("the table has control characters: %q", table)
	}
}

func TestTextsAreCutToColumnsOfTheTerminal(t *testing.T) {
	for _, tt := range []struct {
		text  string
		width int
		tail  bool
		want  string
	}{
		{"orders", 6, false, "orders"},
		{"orders", 5, false, "orde…"},
		{"orders", 5, true, "…ders"},
		{"日本語", 6, false, "日本語"},
		{"日本語", 5, false, "日本…"},
		{"日本語", 5, true, "…本語"},
		{"日本語", 4, true, "…語"},
		{"orders", 1, false, "…"},
		{"orders", 0, true, ""},
	} {
		if got := Fit(tt.text, tt.width, tt.tail); got != tt.want {
			t.Errorf("%q in %d columns is %q, want %q", tt.text, tt.width, got, tt.want)
		}
	}
	if got, want := Wrap("open /data/a-very-long-path: no space  left", 11), []string{"open", "/data/a-ver", "y-long-path", ": no space", "left"}; !slices.Equal(got, want) {
		t.Errorf("wrapped: %q, want %q", got, want)
	}
}

func ptr[T any](v T) *T { return &v }

func one(name string, state consumer.State) web.ConsumerStatus {
	return web.ConsumerStatus{Name: name, Status: state, StatusSince: noon.Add(-90 * time.Second), Group: "kcagent-" + name, Sink: "file:/data/" + name + ".log"}
}

func TestColumnsOfTheTable(t *testing.T) {
	sum := len(Columns) - 1
	for _, c := range Columns {
		sum += c.width
	}
	if sum != Width {
		t.Errorf("the columns need %d, want %d", sum, Width)
	}
	c := one("orders", consumer.Running)
	c.Lag, c.LagSeconds, c.CatchUpSeconds, c.RecordsPerSecond, c.RecordsTotal = ptr[int64](12_345), ptr(61.0), ptr(7200.0), 99.5, 1_000_000
	s := web.Status{Config: web.ConfigStatus{Path: "c.yaml", State: "synced"}, Summary: map[consumer.State]int{consumer.Running: 1, consumer.Starting: 1}, Consumers: []web.ConsumerStatus{c, one("new", consumer.Starting)}}
	want := `c.yaml: synced
2 consumers: 1 STARTING, 1 RUNNING
NAME   STATUS   SINCE    LAG LAG TIME CATCH-UP RATE/S RECORDS GROUP          SINK
new    STARTING    1m      -        -        -      0       0 kcagent-new    /data/new.log
orders RUNNING     1m  12.3k       1m       2h   99.5    1.0M kcagent-orders /data/orders.log
`
	if got := Render(s, noon, 0, false); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestTableUsesTheWidth: long texts get what a wide terminal has to spare, and a narrow table
// has fewer columns.
func TestTableUsesTheWidth(t *testing.T) {
	long := one("a-consumer-with-quite-a-long-name", consumer.Failing)
	rows := []web.ConsumerStatus{long, one("b", consumer.Running)}
	for width, want := range map[int]string{
		30:  "NAME STATUS",
		60:  "NAME STATUS SINCE LAG LAG TIME RATE/S",
		80:  "NAME STATUS SINCE LAG LAG TIME CATCH-UP RATE/S RECORDS",
		100: "NAME STATUS SINCE LAG LAG TIME CATCH-UP RATE/S RECORDS GROUP SINK",
		200: "NAME STATUS SINCE LAG LAG TIME CATCH-UP RATE/S RECORDS GROUP SINK",
	} {
		l := LayOut(rows, width)
		titles := strings.Join(l.Titles(), " ")
		if got := strings.Join(strings.Fields(titles), " "); got != want {
			t.Errorf("%d columns: %s, want %s", width, got, want)
		}
		for i := range rows {
			line := strings.Join(l.Cells(&rows[i], noon), " ")
			if n := ColumnsOf(line); n > width || n != ColumnsOf(titles) {
				t.Errorf("%d columns: a row needs %d, the titles %d: %s", width, n, ColumnsOf(titles), line)
			}
			if whole := strings.Contains(line, rows[i].Name) && strings.Contains(line, rows[i].Group) && !strings.Contains(line, "…"); width == 200 && !whole {
				t.Errorf("a text is cut in %d columns: %s", width, line)
			}
		}
	}
	s := web.Status{Consumers: rows}
	for width, most := range map[int]int{0: 100, 60: 100, 100: 100, 120: 120} {
		for line := range strings.Lines(Render(s, noon, width, false)) {
			if n := ColumnsOf(strings.TrimSuffix(line, "\n")); n > most {
				t.Errorf("%d columns instead of %d: %s", n, most, line)
			}
		}
	}
}

func TestConsumersAreOrderedByUrgency(t *testing.T) {
	var rows []web.ConsumerStatus
	for i, state := range []consumer.State{consumer.Created, consumer.Running, consumer.Failing, consumer.Paused, consumer.Stopping, consumer.Starting, consumer.Running, consumer.Failing, consumer.Running} {
		rows = append(rows, one(fmt.Sprint(i), state))
	}
	rows[6].PendingChange = &web.PendingChange{Error: ptr("topic not found")}
	rows[8].PendingChange = &web.PendingChange{} // its pre-check is in progress
	slices.SortFunc(rows, func(a, b web.ConsumerStatus) int { return web.ByUrgency(&a, &b) })
	var got []string
	for _, c := range rows {
		got = append(got, c.Name)
	}
	if want := []string{"2", "7", "6", "4", "5", "1", "8", "3", "0"}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

// TestUnknownIsLessThanEveryValue when the table is sorted by a column.
func TestUnknownIsLessThanEveryValue(t *testing.T) {
	unknown, zero, more := one("a", consumer.Running), one("b", consumer.Running), one("c", consumer.Running)
	zero.Lag, zero.LagSeconds, zero.CatchUpSeconds = ptr[int64](0), ptr(0.0), ptr(0.0)
	more.Lag, more.LagSeconds, more.CatchUpSeconds = ptr[int64](5), ptr(0.5), ptr(0.5)
	more.RecordsPerSecond, more.RecordsTotal, more.StatusSince = 1, 1, noon
	for _, c := range Columns {
		switch c.Title {
		case "LAG", "LAG TIME", "CATCH-UP":
			if c.Compare(&unknown, &zero) >= 0 || c.Compare(&zero, &unknown) <= 0 || c.Compare(&unknown, &unknown) != 0 {
				t.Errorf("%s: unknown is not less than 0", c.Title)
			}
			fallthrough
		case "RATE/S", "RECORDS", "SINCE", "NAME", "GROUP", "SINK":
			if c.Compare(&zero, &more) >= 0 || c.Compare(&more, &zero) <= 0 {
				t.Errorf("%s: the order is wrong", c.Title)
			}
		}
	}
}

func TestRejectedFileDoesNotLookApplied(t *testing.T) {
	c := web.ConfigStatus{Path: "c.yaml", State: "synced", AppliedAt: ptr(noon.Add(-6 * time.Second))}
	if got := Headline(c, noon); got != "c.yaml: synced, applied 6s ago" {
		t.Error(got)
	}
	c.State = "rejected"
	if got := Headline(c, noon); got != "c.yaml: rejected; the configuration applied 6s ago stays in force" {
		t.Error(got)
	}
	c.AppliedAt = nil
	if got := Headline(c, noon); got != "c.yaml: rejected" {
		t.Error(got)
	}
}

// TestFieldsAreWhatTheTableShows: without the fields that top does not request, the table is
// the same.
func TestFieldsAreWhatTheTableShows(t *testing.T) {
	c := one("orders", consumer.Running)
	c.LastError, c.PendingChange = ptr("no space left"), &web.PendingChange{Action: plan.Replace, Fields: []string{"group"}}
	c.Objects = &web.ObjectsStatus{OpenPlans: 1}
	c.Lag, c.LagSeconds, c.CatchUpSeconds, c.RecordsPerSecond, c.RecordsTotal = ptr[int64](1), ptr(1.0), ptr(1.0), 1, 1
	s := web.Status{
		Config:  web.ConfigStatus{Path: "c.yaml", State: "rejected", AppliedAt: &noon, Problems: config.Problems{{Message: "wrong"}}},
		Summary: map[consumer.State]int{consumer.Running: 1}, Consumers: []web.ConsumerStatus{c},
	}
	want := Render(s, noon, 0, false)
	requested := make(map[string]bool)
	for name := range strings.SplitSeq(Fields, ",") {
		requested[name] = true
	}
	keep := func(v reflect.Value, prefix string) {
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if !requested[prefix+name] && prefix+name != "consumers" {
				v.Field(i).SetZero()
			}
			delete(requested, prefix+name)
		}
	}
	keep(reflect.ValueOf(&s).Elem(), "")
	keep(reflect.ValueOf(&s.Consumers[0]).Elem(), "consumers.")
	if got := Render(s, noon, 0, false); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if len(requested) > 0 {
		t.Errorf("/status has no fields %v", requested)
	}
}
