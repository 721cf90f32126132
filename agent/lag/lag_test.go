package lag

import (
	"encoding/json"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return noon.Add(-d) }

// show renders a value with null for what is unknown.
func show(v ...any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// TestUnknownLagIsNotZero: the lag is unknown unless position and end are known, and its age
// unless a timestamp is known.
func TestUnknownLagIsNotZero(t *testing.T) {
	for _, tt := range []struct {
		name string
		Reading
		want string
	}{
		{"no position", Reading{-1, 10, ago(time.Second)}, "[null,null,null]"},
		{"no end", Reading{7, -1, ago(time.Second)}, "[null,null,null]"},
		{"behind, without a timestamp", Reading{7, 10, time.Time{}}, "[3,null,null]"},
		{"behind", Reading{7, 10, ago(1500 * time.Millisecond)}, "[3,1.5,null]"},
		{"a timestamp in the future", Reading{7, 10, ago(-time.Hour)}, "[3,0,null]"},
		{"caught up, whatever the timestamp", Reading{10, 10, ago(time.Hour)}, "[0,0,0]"},
		{"caught up, without a timestamp", Reading{10, 10, time.Time{}}, "[0,0,0]"},
		{"the end is older than the position", Reading{11, 10, time.Time{}}, "[0,0,0]"},
		{"nothing was ever written", Reading{0, 0, time.Time{}}, "[0,0,0]"},
	} {
		l := tt.Lag(noon)
		if got := show(l.Records, l.Seconds, l.CatchUp); got != tt.want {
			t.Errorf("%s: the lag is %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestConsumerLagNeedsAllPartitions: one partition with an unknown value makes that value of
// the consumer unknown.
func TestConsumerLagNeedsAllPartitions(t *testing.T) {
	slow, fast := Lag{Records: new(int64(3)), Seconds: new(2.5)}, Lag{Records: new(int64(4)), Seconds: new(1.5)}
	zero := Reading{}.Lag(noon)
	for name, tt := range map[string]struct {
		partitions []Lag
		want       string
	}{
		"no partition":       {nil, "[null,null,null]"},
		"sum and maximum":    {[]Lag{fast, slow, fast, zero}, "[11,2.5,null]"},
		"one is unknown":     {[]Lag{slow, {}, fast}, "[null,null,null]"},
		"one age is unknown": {[]Lag{slow, {Records: new(int64(1))}}, "[4,null,null]"},
		"caught up":          {[]Lag{zero, zero}, "[0,0,0]"},
	} {
		all := Sum(tt.partitions)
		if got := show(all.Records, all.Seconds, all.CatchUp); got != tt.want {
			t.Errorf("%s: the lag is %s, want %s", name, got, tt.want)
		}
	}
}

// TestTimesBelongToPositions: a timestamp is used only at the position that it was recorded
// for, and the result is never later than the timestamp of the next record.
func TestTimesBelongToPositions(t *testing.T) {
	none := time.Time{}
	for _, tt := range []struct {
		name     string
		record   func(*Times)
		position int64
		queued   time.Time
		want     time.Time
	}{
		{"nothing is known", func(*Times) {}, 0, none, none},
		{"what was fetched ahead", func(*Times) {}, 7, ago(3), ago(3)},
		{"the chunk that is being written", func(r *Times) { r.Read(7, ago(5)) }, 7, ago(3), ago(5)},
		{"the last record that was written", func(r *Times) { r.Read(7, ago(5)); r.Accept(7, 9, ago(4)) }, 9, none, ago(4)},
		{"the later one of two bounds", func(r *Times) { r.Accept(7, 9, ago(4)) }, 9, ago(6), ago(4)},
		{"the later one of two bounds, swapped", func(r *Times) { r.Accept(7, 9, ago(4)) }, 9, ago(3), ago(3)},
		{"a reset to an earlier offset", func(r *Times) { r.Read(7, ago(5)); r.Accept(7, 9, ago(4)) }, 3, none, none},
		{"a reset to a later offset", func(r *Times) { r.Read(7, ago(5)); r.Accept(7, 9, ago(4)) }, 20, none, none},
		{"read again from the same position", func(r *Times) { r.Accept(5, 7, ago(6)); r.Read(7, ago(5)) }, 7, none, ago(5)},
		{"the next record has no timestamp", func(r *Times) { r.Accept(5, 7, ago(6)); r.Read(7, none) }, 7, none, ago(6)},
		{"the last record has no timestamp", func(r *Times) { r.Accept(5, 7, ago(6)); r.Accept(7, 9, none) }, 9, none, ago(6)},
		{"the last records have none, after a reset", func(r *Times) { r.Accept(5, 7, ago(6)); r.Accept(3, 9, none) }, 9, none, none},
	} {
		var times Times
		tt.record(&times)
		if got := times.Next(tt.position, tt.queued); !got.Equal(tt.want) {
			t.Errorf("%s: the time is %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestCatchUpNeedsAFallingLag takes a sample every two seconds, as the agent does. A negative
// number is an unknown lag.
func TestCatchUpNeedsAFallingLag(t *testing.T) {
	for _, tt := range []struct {
		name    string
		samples []int64
		want    string
	}{
		{"no sample", nil, "null"},
		{"one sample", []int64{100}, "null"},
		{"falls", []int64{100, 80}, "8"},              // by 10 a second
		{"falls more slowly", []int64{100, 98}, "98"}, // by 1 a second
		{"falls on average", []int64{100, 110, 60}, "6"},
		{"grows", []int64{100, 120}, "null"},
		{"stays", []int64{100, 100, 100}, "null"},
		{"caught up", []int64{100, 0}, "0"},
		{"caught up, and was never behind", []int64{0}, "0"},
		{"is unknown now", []int64{100, 80, -1}, "null"},
		{"was unknown", []int64{100, 80, -1, 60}, "null"},
		{"was unknown, and falls", []int64{100, -1, 60, 50}, "10"},
		{"fell, and stays", []int64{900, 100, 100, 100, 100, 100, 100}, "null"},
		{"grew, and falls", []int64{0, 900, 800, 700, 600, 500, 400}, "8"},
	} {
		var trend Trend
		var last *int64
		for i, n := range tt.samples {
			if last = &n; n < 0 {
				last = nil
			}
			trend.Sample(last, noon.Add(time.Duration(i)*2*time.Second))
		}
		if last == nil && tt.samples == nil {
			last = new(int64(100))
		}
		if got := show(trend.CatchUp(last)); got != "["+tt.want+"]" {
			t.Errorf("%s: it catches up in %s, want %s", tt.name, got, tt.want)
		}
	}
}
