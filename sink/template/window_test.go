package template

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestWindow(t *testing.T) {
	for _, tc := range []struct{ layout, zone, at, from, to string }{
		{"2006", "UTC", "2026-03-09T23:05:07Z", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"06-Jan", "UTC", "2026-12-09T23:05:07Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"2006/01/02", "UTC", "2028-02-29T23:05:07Z", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"},
		{"2006 002", "UTC", "2026-03-09T23:05:07Z", "2026-03-09T00:00:00Z", "2026-03-10T00:00:00Z"},
		{"Mon", "UTC", "2026-03-09T23:05:07Z", "2026-03-09T00:00:00Z", "2026-03-10T00:00:00Z"},
		{"2006/01/02/15", "UTC", "2026-03-09T23:05:07Z", "2026-03-09T23:00:00Z", "2026-03-10T00:00:00Z"},
		{"2006-01-02 PM", "UTC", "2026-03-09T23:05:07Z", "2026-03-09T23:00:00Z", "2026-03-10T00:00:00Z"},
		{"2006-01-02 3PM", "UTC", "2026-03-09T23:05:07Z", "2026-03-09T23:00:00Z", "2026-03-10T00:00:00Z"},
		{"15:04", "UTC", "2026-03-09T23:05:07Z", "2026-03-09T23:05:00Z", "2026-03-09T23:06:00Z"},
		{"20060102150405", "UTC", "2026-03-09T23:05:07.5Z", "2026-03-09T23:05:07Z", "2026-03-09T23:05:08Z"},
		{"2006/01/02", "Asia/Kolkata", "2026-03-09T18:29:59Z", "2026-03-08T18:30:00Z", "2026-03-09T18:30:00Z"},
		{"2006/01/02/15", "Asia/Kolkata", "2026-03-09T18:29:59Z", "2026-03-09T17:30:00Z", "2026-03-09T18:30:00Z"},
		{"2006/01/02", "Europe/Berlin", "2026-03-09T23:05:07Z", "2026-03-09T23:00:00Z", "2026-03-10T23:00:00Z"},
		// The day has 23 hours, in two windows.
		{"2006/01/02", "Europe/Berlin", "2026-03-29T00:59:00Z", "2026-03-28T23:00:00Z", "2026-03-29T01:00:00Z"},
		{"2006/01/02", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T22:00:00Z"},
		// In the autumn, 02:00 to 03:00 comes twice.
		{"15", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"},
		{"15", "Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"},
		// Lord Howe Island moves its clocks by half an hour.
		{"15", "Australia/Lord_Howe", "2026-04-04T14:45:00Z", "2026-04-04T14:00:00Z", "2026-04-04T15:00:00Z"},
		{"15", "Australia/Lord_Howe", "2026-04-04T15:15:00Z", "2026-04-04T15:00:00Z", "2026-04-04T15:30:00Z"},
	} {
		at, _ := time.Parse(time.RFC3339, tc.at)
		w := parse(t, "{time:"+tc.layout+"}", zone(t, tc.zone)).Window(at)
		if from, to := w.From.UTC().Format(time.RFC3339Nano), w.To.UTC().Format(time.RFC3339Nano); from != tc.from || to != tc.to {
			t.Errorf("%s in %s at %s: %s to %s, want %s to %s", tc.layout, tc.zone, tc.at, from, to, tc.from, tc.to)
		}
	}
	if w := parse(t, "{topic}", nil).Window(time.Now()); !w.Unlimited() {
		t.Errorf("without a time: %v", w)
	}
	if w := parse(t, "{topic}/{time:2006}-{time:02}", nil).Window(values.Time); w.To.Sub(w.From) != 24*time.Hour {
		t.Errorf("with two layouts: %v", w)
	}
}

// TestWindowHasOneText: all times of a window are rendered alike, in any zone. A window of hours or
// more ends where the text changes, or where the zone changes its offset.
func TestWindowHasOneText(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	layouts := []string{"2006", "2006/01", "2006/01/02", "Mon", "002", "2006-01-02T15", "3PM", "PM", "15:04", "2006-01-02T15:04:05", "January _2"}
	zones := []string{
		"UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe",
		"Pacific/Apia", "America/Sao_Paulo", "Africa/Monrovia", "Asia/Tehran", "Antarctica/Troll", "Europe/Amsterdam",
	}
	for _, name := range zones {
		z := zone(t, name)
		for _, layout := range layouts {
			tmpl := parse(t, "{time:"+layout+"}", z)
			render := func(at time.Time) string {
				text, err := tmpl.Render(Values{Time: at})
				if err != nil {
					t.Fatal(err)
				}
				return text
			}
			for i := range 60 {
				at := time.UnixMilli(random.Int64N(4e12) - 1e12)
				switch i % 6 {
				case 0: // around a change of the zone
					if _, end := at.In(z).ZoneBounds(); !end.IsZero() {
						at = end.Add(time.Duration(random.Int64N(int64(6*time.Hour))) - 3*time.Hour)
					}
				case 1:
					at = time.UnixMilli(random.Int64() - random.Int64())
				case 2: // around the year 1, where Go's zero time is
					at = time.Time{}.Add(time.Duration(random.Int64N(int64(80*time.Hour))) - 40*time.Hour)
				case 3:
					at = []time.Time{{}, time.UnixMilli(-1 << 63), time.UnixMilli(1<<63 - 1), time.Unix(253402300799, 0), time.Unix(-62167219200, 0)}[random.IntN(5)]
				}
				want, w := render(at), tmpl.Window(at)
				if !w.Has(at) {
					t.Fatalf("%s in %s: %v is not in its window %v", layout, name, at, w)
				}
				inside := []time.Time{w.From, w.To.Add(-1)}
				for range 6 {
					if long := w.To.Sub(w.From); long > 0 {
						inside = append(inside, w.From.Add(time.Duration(random.Int64N(int64(long)))))
					}
				}
				for _, in := range inside {
					if got := render(in); w.Has(in) && got != want {
						t.Fatalf("%s in %s: %v is %q, and %v in its window %v is %q", layout, name, at, want, in, w, got)
					}
				}
			}
		}
	}
}
