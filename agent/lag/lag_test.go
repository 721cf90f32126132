package lag

import (
	"encoding/json"
	"testing"
)

// show renders a lag with null for what is unknown.
func show(l Lag) string {
	text, err := json.Marshal([]any{l.Records, l.Seconds, l.CatchUp})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// TestUnknownLagIsNotZero: the lag is unknown unless position and end are known.
func TestUnknownLagIsNotZero(t *testing.T) {
	for _, tt := range []struct {
		position, end int64
		want          string
	}{
		{-1, 10, "[null,null,null]"},
		{7, -1, "[null,null,null]"},
		{7, 10, "[3,null,null]"},
		{10, 10, "[0,0,0]"},
		{11, 10, "[0,0,0]"}, // the end is older than the position
	} {
		if got := show(Between(tt.position, tt.end)); got != tt.want {
			t.Errorf("the lag between %d and %d is %s, want %s", tt.position, tt.end, got, tt.want)
		}
	}
}

// TestConsumerLagNeedsAllPartitions: one partition with an unknown value makes that value of
// the consumer unknown.
func TestConsumerLagNeedsAllPartitions(t *testing.T) {
	none, slow, fast := Lag{}, Lag{Records: new(int64(3)), Seconds: new(2.5)}, Lag{Records: new(int64(4)), Seconds: new(1.5)}
	for name, tt := range map[string]struct {
		partitions []Lag
		want       string
	}{
		"no partition":       {nil, "[null,null,null]"},
		"sum and maximum":    {[]Lag{fast, slow, fast}, "[11,2.5,null]"},
		"one is unknown":     {[]Lag{slow, none, fast}, "[null,null,null]"},
		"one age is unknown": {[]Lag{slow, {Records: new(int64(1))}}, "[4,null,null]"},
		"caught up":          {[]Lag{Between(1, 1), Between(2, 2)}, "[0,0,0]"},
	} {
		if got := show(Sum(tt.partitions)); got != tt.want {
			t.Errorf("%s: the lag is %s, want %s", name, got, tt.want)
		}
	}
}
