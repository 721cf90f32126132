// Package statustable has the table of consumers, which kcagent status prints and kcagent
// top keeps up to date: its columns, the order of its rows, and the format of numbers and
// ages. Start reading with [Render] and [Columns].
package statustable

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/web"
)

// Width is the number of columns that the table fits into where no terminal sets a width.
const Width = 100

var stateColours = map[consumer.State]string{
	consumer.Failing: "31", consumer.Stopping: "33", consumer.Starting: "33", consumer.Running: "32", consumer.Paused: "36", consumer.Created: "2",
}

// Render returns the table: the state of the configuration, and a row for each
// consumer, with its error and its pending change below it. It fits into width columns, but
// not into less than [Width]. Ages are relative to now.
func Render(s web.Status, now time.Time, width int, coloured bool) string {
	width = max(width, Width)
	paint := func(code, text string) string {
		if !coloured || code == "" {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	var b strings.Builder
	b.WriteString(paint("1", Fit(Headline(s.Config, now), width, true)) + "\n")
	for _, line := range Problems(s.Config) {
		b.WriteString(paint("31", "  "+line) + "\n")
	}
	b.WriteString(Fit(Summary(s), width, false) + "\n")
	if len(s.Consumers) == 0 {
		return b.String()
	}
	rows := slices.Clone(s.Consumers)
	slices.SortStableFunc(rows, func(a, b web.ConsumerStatus) int { return web.ByUrgency(&a, &b) })
	layout := LayOut(rows, width)
	b.WriteString(strings.TrimRight(strings.Join(layout.Titles(), " "), " ") + "\n")
	for i := range rows {
		c := &rows[i]
		cells := layout.Cells(c, now)
		cells[1] = paint(stateColours[c.Status], cells[1])
		b.WriteString(strings.TrimRight(strings.Join(cells, " "), " ") + "\n")
		for _, n := range Notes(c) {
			colour := "31"
			if n.Pending {
				colour = "33"
			}
			b.WriteString(paint(colour, Fit("  "+n.Text, width, false)) + "\n")
		}
	}
	return b.String()
}

// Headline names the configuration file and its state.
func Headline(c web.ConfigStatus, now time.Time) string {
	text := Clean(c.Path + ": " + c.State)
	if c.AppliedAt == nil {
		return text
	}
	age := Age(now.Sub(*c.AppliedAt))
	if c.State == "rejected" { // the time belongs to another content of the file
		return fmt.Sprintf("%s; the configuration applied %s ago stays in force", text, age)
	}
	return fmt.Sprintf("%s, applied %s ago", text, age)
}

// Problems returns the problems of the file, one line for each and one for its hint.
func Problems(c web.ConfigStatus) (lines []string) {
	for _, p := range c.Problems {
		hint := p.Hint
		p.Hint = ""
		lines = append(lines, Clean(p.String()))
		if hint != "" {
			lines = append(lines, "  hint: "+Clean(hint))
		}
	}
	return lines
}

// Summary counts the consumers by state.
func Summary(s web.Status) string {
	var states []string
	for _, state := range web.StatesByUrgency {
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

// A Note is a line below a consumer: its error, or what is pending: a change, or open plans.
type Note struct {
	Text    string
	Pending bool
}

// Notes returns the error, the pending change and the open plans of a consumer, on one line each and
// without characters that a terminal would interpret.
func Notes(c *web.ConsumerStatus) (notes []Note) {
	if c.LastError != nil {
		notes = append(notes, Note{Text: Clean(*c.LastError)})
	}
	if c.PendingChange != nil {
		notes = append(notes, Note{Clean(PendingChange(c.PendingChange)), true})
	}
	if c.Objects != nil && c.Objects.OpenPlans > 0 {
		notes = append(notes, Note{Held(c.Objects), true})
	}
	return notes
}

// Held describes what an objects sink holds that is not published yet.
func Held(o *web.ObjectsStatus) string {
	text := fmt.Sprintf("%d open objects, %s in the spool", o.Open, Size(o.SpoolBytes))
	if o.OpenPlans > 0 {
		text += fmt.Sprintf(", plans open for %d partitions", o.OpenPlans)
	}
	return text
}

// PendingChange says which change is pending, and why.
func PendingChange(p *web.PendingChange) string {
	why := "pre-check in progress"
	if p.Error != nil {
		why = *p.Error
	}
	return fmt.Sprintf("%s of %s is pending: %s", p.Action, strings.Join(p.Fields, ", "), why)
}
