// Package statustable renders the status of an agent as a table for people.
package statustable

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"kcagent/agent/consumer"
	"kcagent/agent/web"
)

// Width is the number of columns that the table fits into.
const Width = 100

// A column of the table.
type column struct {
	title string
	width int
	right bool // align right, for numbers
	tail  bool // keep the end of a text that does not fit
}

var columns = []column{
	{"NAME", 20, false, false},
	{"STATUS", 8, false, false},
	{"SINCE", 6, true, false},
	{"LAG", 7, true, false},
	{"RATE/S", 7, true, false},
	{"RECORDS", 7, true, false},
	{"GROUP", 19, false, false},
	{"SINK", 19, false, true},
}

// byUrgency orders the states: those that require an action come first.
var byUrgency = []consumer.State{consumer.Failing, consumer.Stopping, consumer.Starting, consumer.Running, consumer.Paused, consumer.Created}

// urgency is less for a consumer that requires an action sooner. A consumer with a failed
// pre-check comes right after those in ERROR.
func urgency(c web.ConsumerStatus) int {
	n := 2 * slices.Index(byUrgency, c.Status)
	if c.PendingChange != nil && c.PendingChange.Error != nil {
		n = min(n, 1)
	}
	return n
}

var stateColours = map[consumer.State]string{
	consumer.Failing: "31", consumer.Stopping: "33", consumer.Starting: "33", consumer.Running: "32", consumer.Paused: "36", consumer.Created: "2",
}

// Render returns the table: the state of the configuration, and a row for each consumer,
// with its error and its pending change below it. Ages are relative to now.
func Render(s web.Status, now time.Time, coloured bool) string {
	paint := func(code, text string) string {
		if !coloured || code == "" {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	var b strings.Builder
	b.WriteString(paint("1", fit(headline(s, now), Width, true)) + "\n")
	for _, p := range s.Config.Problems {
		b.WriteString(paint("31", "  "+strings.ReplaceAll(p.String(), "\n", "\n  ")) + "\n")
	}
	b.WriteString(fit(summary(s), Width, false) + "\n")
	if len(s.Consumers) == 0 {
		return b.String()
	}
	var titles []string
	for _, c := range columns {
		titles = append(titles, c.cell(c.title))
	}
	b.WriteString(strings.TrimRight(strings.Join(titles, " "), " ") + "\n")
	rows := slices.Clone(s.Consumers)
	slices.SortStableFunc(rows, func(a, b web.ConsumerStatus) int {
		return cmp.Or(cmp.Compare(urgency(a), urgency(b)), cmp.Compare(a.Name, b.Name))
	})
	for _, c := range rows {
		cells := make([]string, len(columns))
		for i, text := range []string{
			c.Name, string(c.Status), age(now.Sub(c.StatusSince)), lagOf(&c),
			figure(c.RecordsPerSecond), figure(float64(c.RecordsTotal)), c.Group, strings.TrimPrefix(c.Sink, "file:"),
		} {
			cells[i] = columns[i].cell(text)
		}
		cells[1] = paint(stateColours[c.Status], cells[1])
		b.WriteString(strings.TrimRight(strings.Join(cells, " "), " ") + "\n")
		if c.LastError != nil {
			b.WriteString(paint("31", fit("  "+oneLine(*c.LastError), Width, false)) + "\n")
		}
		if p := c.PendingChange; p != nil {
			b.WriteString(paint("33", fit("  "+oneLine(PendingChange(p)), Width, false)) + "\n")
		}
	}
	return b.String()
}

// headline names the configuration file and its state.
func headline(s web.Status, now time.Time) string {
	if at := s.Config.AppliedAt; at != nil {
		return fmt.Sprintf("%s: %s, applied %s ago", s.Config.Path, s.Config.State, age(now.Sub(*at)))
	}
	return s.Config.Path + ": " + s.Config.State
}

// summary counts the consumers by state.
func summary(s web.Status) string {
	var states []string
	for _, state := range byUrgency {
		if n := s.Summary[state]; n > 0 {
			states = append(states, fmt.Sprintf("%d %s", n, state))
		}
	}
	noun := "consumers"
	if len(s.Consumers) == 1 {
		noun = "consumer"
	}
	text := fmt.Sprintf("%d %s", len(s.Consumers), noun)
	if len(states) > 0 {
		text += ": " + strings.Join(states, ", ")
	}
	return text
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// cell returns a text that is exactly as wide as the column.
func (c column) cell(text string) string {
	text = fit(oneLine(text), c.width, c.tail)
	pad := strings.Repeat(" ", c.width-utf8.RuneCountInString(text))
	if c.right {
		return pad + text
	}
	return text + pad
}

// fit shortens a text that is longer than width.
func fit(text string, width int, tail bool) string {
	r := []rune(text)
	switch {
	case len(r) <= width:
		return text
	case tail:
		return "…" + string(r[len(r)-width+1:])
	}
	return string(r[:width-1]) + "…"
}

// age returns a duration in its largest unit.
func age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// lagOf returns the lag of a consumer, - if it is unknown.
func lagOf(c *web.ConsumerStatus) string {
	if c.Lag == nil {
		return "-"
	}
	return figure(float64(*c.Lag))
}

// figure returns a number in at most five characters, such as 12.3k.
func figure(n float64) string {
	if n < 1000 {
		if n == float64(int(n)) || n >= 100 {
			return fmt.Sprintf("%.0f", n)
		}
		return fmt.Sprintf("%.1f", n)
	}
	for _, unit := range []string{"k", "M", "G", "T"} {
		if n /= 1000; n < 1000 || unit == "T" {
			if n < 100 {
				return fmt.Sprintf("%.1f%s", n, unit)
			}
			return fmt.Sprintf("%.0f%s", n, unit)
		}
	}
	return ""
}

// PendingChange says which change is pending, and why.
func PendingChange(p *web.PendingChange) string {
	why := "pre-check in progress"
	if p.Error != nil {
		why = *p.Error
	}
	return fmt.Sprintf("%s of %s is pending: %s", p.Action, strings.Join(p.Fields, ", "), why)
}
