package top

import (
	"fmt"
	"strings"

	"kcagent/agent/consumer"
	"kcagent/agent/web"
	"kcagent/cli/statustable"
)

// A style is the colour and weight of a text. Without colours, bold, dim and reverse remain.
type style struct {
	colour             colour
	bold, dim, reverse bool
}

type colour int

const (
	plain colour = iota
	red
	green
	yellow
	cyan
)

// A span is a text in one style, a line is what one row of the screen shows.
type (
	span struct {
		text  string
		style style
	}
	line []span
)

func text(s string) line             { return line{{s, style{}}} }
func styled(s string, st style) line { return line{{s, st}} }

var stateStyles = map[consumer.State]style{
	consumer.Failing: {colour: red}, consumer.Stopping: {colour: yellow}, consumer.Starting: {colour: yellow},
	consumer.Running: {colour: green}, consumer.Paused: {colour: cyan}, consumer.Created: {dim: true},
}

// frame returns the lines of the screen, from the top; the last one is the footer. No line
// is longer than the screen is wide, and no text has characters that a terminal interprets.
func (m *model) frame() []line {
	var head, body []line
	var footer string
	switch m.view {
	case helpView:
		head, body, footer = m.agentLines(), help(m.width), "any key: back  q quit"
		if m.helpEnd() < len(body) {
			footer = "any key: more  q quit"
		}
		body = body[min(m.helpOffset, len(body)):]
	case detailView:
		head, body, footer = m.agentLines(), m.detailLines(), "Esc back  ? help  q quit  Up/Down scroll  Space refresh"
		m.detailOffset = max(0, min(m.detailOffset, len(body)-(m.height-len(head)-1)))
		body = body[min(m.detailOffset, len(body)):]
	default:
		head, body, footer = m.headLines(), m.rowLines(), m.tableFooter()
	}
	room := max(0, m.height-1)
	all := append(head, body...)
	all = all[:min(len(all), room)]
	for len(all) < room {
		all = append(all, nil)
	}
	if m.height > 0 {
		all = append(all, styled(statustable.Fit(footer, m.width, m.typing), style{reverse: true}))
	}
	for i := range all {
		all[i] = m.cut(all[i])
	}
	return all
}

// cut shortens a line to the width of the screen, and replaces what a terminal would
// interpret.
func (m *model) cut(l line) line {
	free := m.width
	cut := make(line, 0, len(l))
	for _, s := range l {
		s.text = statustable.Fit(statustable.Printable(s.text), free, false)
		free -= statustable.ColumnsOf(s.text)
		cut = append(cut, s)
	}
	return cut
}

// agentLines are on top of every view: which agent it is, and whether it responds.
func (m *model) agentLines() []line {
	a := m.status.Agent
	name := fmt.Sprintf("kcagent %s on %s, pid %d, up %s, %s", a.Version, a.Hostname, a.PID, statustable.Age(m.seen().Sub(a.StartedAt)), m.url)
	lines := []line{styled(statustable.Clean(name), style{bold: true})}
	if stale := m.stale(); stale != "" {
		lines = append(lines, styled(stale, style{colour: red, bold: true, reverse: true}))
	}
	return lines
}

// shownProblems is how many lines of the problems of the file are shown.
const shownProblems = 4

// headLines are above the rows of the table.
func (m *model) headLines() []line {
	lines := m.agentLines()
	configStyle := style{}
	switch m.status.Config.State {
	case "rejected":
		configStyle.colour = red
	case "applying":
		configStyle.colour = yellow
	}
	headline := statustable.Fit(statustable.Headline(m.status.Config, m.seen()), m.width, true)
	lines = append(lines, m.aged(styled(headline, configStyle)))
	problems := statustable.Problems(m.status.Config)
	for i, p := range problems {
		if i == shownProblems && len(problems) > shownProblems+1 {
			lines = append(lines, m.aged(text(fmt.Sprintf("  and %d more lines: see kcagent status", len(problems)-i))))
			break
		}
		lines = append(lines, m.aged(styled("  "+p, style{colour: red})))
	}
	lines = append(lines, m.aged(text(statustable.Summary(m.status)+m.selection())))
	layout := m.layout()
	at := layout.Columns()
	var titles line
	for i, title := range layout.Titles() {
		titles = append(titles, span{title, style{bold: true, reverse: at[i] == m.sortBy}}, span{" ", style{}})
	}
	return append(lines, titles)
}

// selection says which consumers are shown, in which order.
func (m *model) selection() string {
	var parts []string
	if m.filter != "" || m.state != "" {
		parts = append(parts, fmt.Sprintf("%d shown", len(m.rows)))
	}
	if m.state != "" {
		parts = append(parts, "state "+string(m.state))
	}
	if m.filter != "" {
		parts = append(parts, fmt.Sprintf("filter %q", m.filter))
	}
	order := "most urgent first"
	if m.sortBy != byUrgency {
		order = "by " + statustable.Columns[m.sortBy].Title
	}
	if m.reversed {
		order += ", reversed"
	}
	return " | " + strings.Join(append(parts, order), ", ")
}

func (m *model) tableFooter() string {
	if m.typing {
		return "filter: " + statustable.Clean(m.filter) + "_   Enter keeps it, Esc clears it"
	}
	return fmt.Sprintf("%d/%d  ? help  q quit  Enter details  < > sort  r reverse  / filter  s state", min(m.cursor+1, len(m.rows)), len(m.rows))
}

// bodyHeight is the number of lines for the rows of the table.
func (m *model) bodyHeight() int { return max(1, m.height-1-len(m.headLines())) }

// rowLines returns the lines of the rows that fit on the screen. The selected one is among
// them.
func (m *model) rowLines() []line {
	if len(m.rows) == 0 {
		if len(m.status.Consumers) == 0 {
			return []line{text("the configuration has no consumers")}
		}
		return []line{text("no consumer matches the filter; Esc clears it")}
	}
	height, total := m.bodyHeight(), 0
	first, last := 0, 0 // lines of the selected row
	for i, c := range m.rows {
		n := 1 + len(statustable.Notes(c))
		if i == m.cursor {
			first, last = total, total+n
		}
		total += n
	}
	m.offset = min(max(m.offset, last-height), first)
	m.offset = max(0, min(m.offset, total-height))
	layout := m.layout()
	var lines []line
	at := 0
	for i, c := range m.rows {
		n := 1 + len(statustable.Notes(c))
		if at+n > m.offset && at < m.offset+height {
			lines = append(lines, m.row(layout, c, i == m.cursor)[max(0, m.offset-at):]...)
		}
		at += n
	}
	return lines[:min(len(lines), height)]
}

// row returns the lines of a consumer: its values, its error and its pending change.
func (m *model) row(layout statustable.Layout, c *web.ConsumerStatus, selected bool) []line {
	var values line
	for i, cell := range layout.Cells(c, m.seen()) {
		st := style{}
		if i == 1 {
			st = stateStyles[c.Status]
		}
		values = append(values, span{cell, st}, span{" ", style{}})
	}
	for i := range values {
		values[i].style.reverse = selected
	}
	lines := []line{m.aged(values)}
	for _, n := range statustable.Notes(c) {
		st := style{colour: red}
		if n.Pending {
			st.colour = yellow
		}
		lines = append(lines, m.aged(styled("  "+n.Text, st)))
	}
	return lines
}

// aged dims a line while the agent does not respond.
func (m *model) aged(l line) line {
	if m.failure != nil {
		for i := range l {
			l[i].style.dim = true
		}
	}
	return l
}

// helpKeys are the keys and what they do.
var helpKeys = [][2]string{
	{"Up Down k j", "select a consumer; also PgUp PgDn Home End"},
	{"Enter", "details: partitions, errors, pending change"},
	{"Esc", "back; in the table: clear the filters"},
	{"Left Right < >", "sort by the previous or next column; its title is marked"},
	{"r", "reverse the order"},
	{"t", "most urgent first: consumers that require an action"},
	{"/", "filter by a text in name, state, group, sink or error"},
	{"s", "show only one state, then the next one"},
	{"Space", "request the status now"},
	{"Ctrl-L", "draw the screen again"},
	{"q Ctrl-C", "quit"},
}

// helpText is below the keys.
var helpText = []string{
	"",
	"LAG TIME is the age of the next record to be written, CATCH-UP the time until the lag is 0 at the current rate; - stands for unknown. A narrow screen shows fewer columns.",
	"",
	"top changes nothing: edit the configuration file to change a consumer.",
}

// helpEnd is the first line of the help that is below the screen.
func (m *model) helpEnd() int { return m.helpOffset + max(1, m.height-1-len(m.agentLines())) }

// help returns the lines of the help for a screen.
func help(width int) []line {
	lines := []line{nil}
	for _, k := range helpKeys {
		name := fmt.Sprintf("%-16s", k[0])
		for _, l := range statustable.Wrap(k[1], max(20, width-len(name))) {
			lines = append(lines, line{{name, style{bold: true}}, {l, style{}}})
			name = strings.Repeat(" ", len(name))
		}
	}
	for _, s := range helpText {
		for _, l := range statustable.Wrap(s, max(20, width)) {
			lines = append(lines, text(l))
		}
	}
	return lines
}
