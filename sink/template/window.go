package template

import (
	"time"

	"kcagent/sink"
)

// A unit is a unit of the calendar, or of the clock.
type unit int

const (
	never unit = iota // the text is the same at any time
	year
	month
	day
	hour
	minute
	second
)

func finer(a, b unit) unit { return max(a, b) }

// reference is a time at the beginning of no unit. It is after noon, and its fields differ.
var reference = time.Date(2021, time.August, 17, 13, 38, 47, 0, time.UTC)

// steps are times that have other values only in one unit than the reference. Two steps of a
// unit are enough for every element of a layout: in 12 hours, PM changes and the hour of the
// 12-hour clock does not.
var steps = []struct {
	unit unit
	to   []time.Time
}{
	{second, []time.Time{reference.Add(time.Second)}},
	{minute, []time.Time{reference.Add(time.Minute)}},
	{hour, []time.Time{reference.Add(time.Hour), reference.Add(-12 * time.Hour)}},
	{day, []time.Time{reference.AddDate(0, 0, 1)}},
	{month, []time.Time{reference.AddDate(0, 1, 0)}},
	{year, []time.Time{reference.AddDate(1, 0, 0)}},
}

const layoutHint = "use the elements of Go's layouts down to the second, such as 2006, 01, 02, 15, 04 and 05: {time:2006/01/02/15}"

// unitOf returns the unit of the finest element of a layout, or why the layout is invalid.
func unitOf(layout string) (u unit, cause, hint string) {
	text := reference.Format(layout)
	switch {
	case layout == "":
		return never, "{time} has no layout", layoutHint
	case reference.Add(123456789).Format(layout) != text || reference.Add(120*time.Millisecond).Format(layout) != text:
		return never, "the layout " + layout + " contains fractions of a second, so that each record could have a path of its own", layoutHint
	case reference.In(time.FixedZone("A", 0)).Format(layout) != reference.Add(-time.Hour).In(time.FixedZone("B", 3600)).Format(layout):
		return never, "the layout " + layout + " contains a time zone", "remove it: the setting time_zone applies to all paths of the template"
	}
	for _, s := range steps {
		for _, to := range s.to {
			if to.Format(layout) != text {
				return s.unit, "", ""
			}
		}
	}
	return never, "the layout " + layout + " contains no element of a time", layoutHint
}

// local returns the time as the template writes it: in its zone, from year 0 to 9999, so that every
// text can be parsed. Producers may send any number of milliseconds.
func (t *Template) local(at time.Time) time.Time {
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	at = at.In(t.zone)
	switch y := at.Year(); {
	case y < 0:
		return t.least()
	case y > 9999:
		return t.most()
	}
	return at
}

func (t *Template) least() time.Time { return time.Date(0, 1, 1, 0, 0, 0, 0, t.zone) }
func (t *Template) most() time.Time  { return time.Date(9999, 12, 31, 23, 59, 59, 0, t.zone) }

// Limits of all times that Kafka can express, and more.
var (
	forever = time.Unix(1<<60, 0)
	ancient = time.Unix(-1<<60, 0)
)

// Window returns an interval around a time in which the rendered text is the same: a unit of the
// finest element of the layouts, or less, where the zone changes its offset. Without
// {time:LAYOUT}, it has all times. A record without a timestamp is in a window of its own.
func (t *Template) Window(at time.Time) sink.Window {
	if t.unit == never {
		return sink.Window{}
	}
	none := sink.Window{To: time.Time{}.Add(1)} // the zero time alone
	if at.IsZero() {
		return none
	}
	switch y := at.In(t.zone).Year(); {
	case y < 0:
		return sink.Window{From: ancient, To: t.least()}
	case y > 9999:
		return sink.Window{From: t.most(), To: forever}
	}
	w := t.unitAround(at.In(t.zone))
	switch { // the zero time is written as another time
	case !w.Has(none.From):
	case at.Before(none.From):
		w.To = none.From
	default:
		w.From = none.To
	}
	return w
}

// unitAround returns the unit that has a local time, as far as the zone's offset is the same.
func (t *Template) unitAround(at time.Time) sink.Window {
	_, offset := at.Zone()
	begin, end := zoneBounds(at)
	shift := time.Duration(offset) * time.Second
	fixed := at.UTC().Add(shift) // its fields are the local ones
	y, m, d := fixed.Date()
	h, min, s := fixed.Clock()
	fields := [...]int{y, int(m), d, h, min, s}
	firsts := [...]int{0, 1, 1, 0, 0, 0}
	copy(fields[t.unit:], firsts[t.unit:])
	date := func() time.Time {
		return time.Date(fields[0], time.Month(fields[1]), fields[2], fields[3], fields[4], fields[5], 0, time.UTC).Add(-shift)
	}
	w := sink.Window{From: date()}
	fields[t.unit-1]++
	w.To = date()
	if !begin.IsZero() && w.From.Before(begin) {
		w.From = begin
	}
	if !end.IsZero() && w.To.After(end) {
		w.To = end
	}
	return w
}

// zoneBounds returns the beginning and the end of the time around at in which the zone has the same
// offset, or less; zero without a bound.
func zoneBounds(at time.Time) (begin, end time.Time) {
	begin, end = at.ZoneBounds()
	if begin.After(at) || !end.IsZero() && !end.After(at) {
		// Go returns the wrong end for the last day of a leap year, by the rule for the years that
		// the database does not list. By such rules, offsets change at quarters of an hour.
		begin = at.Truncate(15 * time.Minute)
		end = begin.Add(15 * time.Minute)
	}
	return begin, end
}
