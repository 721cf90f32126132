package top

import (
	"fmt"
	"strings"
	"time"

	"kcagent/agent/web"
	"kcagent/cli/statustable"
)

// objects are the objects of each partition that grow, and the plans that are open. There are none for
// other sinks.
func (m *model) objects(c *web.ConsumerStatus) (lines []line) {
	if c.Objects == nil {
		return nil
	}
	var open, plans [][]string
	for _, p := range c.Partitions {
		if o := p.Objects; o != nil && o.Open > 0 {
			open = append(open, []string{p.Topic, fmt.Sprint(p.Partition), fmt.Sprint(o.FirstOffset), fmt.Sprint(o.Open), fmt.Sprint(o.Records), statustable.Size(o.Bytes), m.until(o.DueAt)})
		}
		if o := p.OpenPlan; o != nil {
			plans = append(plans, []string{
				p.Topic, fmt.Sprint(p.Partition), fmt.Sprintf("%d to %d", o.FirstOffset, o.LastOffset), fmt.Sprintf("%d of %d", o.Uploaded, o.Objects),
				fmt.Sprint(o.Records), statustable.Age(m.seen().Sub(o.Since)), m.until(o.RetryAt),
			})
			if o.Error != nil {
				plans = append(plans, []string{"  " + statustable.Clean(*o.Error)})
			}
		}
	}
	lines = m.table(lines, "no object is open", []string{"TOPIC", "PARTITION", "FIRST", "OPEN OBJECTS", "RECORDS", "SIZE", "PUBLISHED IN"}, open)
	return m.table(lines, "no plan is open", []string{"TOPIC", "PARTITION", "OPEN PLAN", "UPLOADED", "RECORDS", "SINCE", "RETRY IN"}, plans)
}

// until returns the time until t.
func (m *model) until(t *time.Time) string {
	if t == nil {
		return statustable.Unknown
	}
	return statustable.Age(t.Sub(m.seen()))
}

// table appends rows below their titles. A row of a single text is wrapped to the width of the screen.
func (m *model) table(lines []line, none string, titles []string, rows [][]string) []line {
	lines = append(lines, text(""))
	if len(rows) == 0 {
		return append(lines, text(none))
	}
	widths := make([]int, len(titles))
	all := append([][]string{titles}, rows...)
	for _, row := range all {
		for i, cell := range row {
			if len(row) > 1 {
				widths[i] = min(40, max(widths[i], statustable.ColumnsOf(statustable.Clean(cell))))
			}
		}
	}
	for n, row := range all {
		if len(row) == 1 {
			lines = append(lines, m.wrap(row[0], style{colour: red})...)
			continue
		}
		var b strings.Builder
		for i, cell := range row {
			cell = statustable.Fit(statustable.Clean(cell), widths[i], false)
			pad := strings.Repeat(" ", widths[i]-statustable.ColumnsOf(cell))
			if i == 0 {
				b.WriteString(cell + pad)
			} else {
				b.WriteString("  " + pad + cell)
			}
		}
		lines = append(lines, styled(b.String(), style{bold: n == 0}))
	}
	return lines
}
