package top

import (
	"fmt"
	"strings"
	"time"

	"kcagent/agent/web"
	"kcagent/cli/statustable"
)

// detailLines are everything that /status shows of the selected consumer.
func (m *model) detailLines() []line {
	if m.detail == nil {
		switch {
		case m.detailErr != nil:
			return []line{text(""), styled(m.selected+": "+statustable.Clean(m.detailErr.Error()), style{colour: red})}
		case m.failure != nil:
			return []line{text(""), text(m.selected + ": the agent does not respond")}
		}
		return []line{text(""), text(m.selected + ": requesting")}
	}
	c := m.detail
	lines := []line{{}, {
		{statustable.Clean(c.Name) + "  ", style{bold: true}},
		{string(c.Status), stateStyles[c.Status]},
		{fmt.Sprintf(" since %s, desired: %s", m.when(&c.StatusSince), c.Desired), style{}},
	}}
	if m.detailErr != nil { // the values are those before the consumer was terminated
		lines = append(lines, styled(statustable.Clean(m.detailErr.Error()), style{colour: red}))
	}
	if c.LastError != nil {
		lines = append(lines, m.wrap("error: "+*c.LastError, style{colour: red})...)
	}
	if p := c.PendingChange; p != nil {
		lines = append(lines, m.wrap(m.pending(p), style{colour: yellow})...)
	}
	lines = append(lines, text(""))
	for _, f := range m.detailFields(c) {
		name := fmt.Sprintf("%-15s", f[0])
		for _, l := range statustable.Wrap(statustable.Clean(f[1]), max(20, m.width-len(name))) {
			lines = append(lines, line{{name, style{dim: true}}, {l, style{}}})
			name = strings.Repeat(" ", len(name))
		}
	}
	lines = append(lines, text(""))
	lines = append(lines, partitions(c)...)
	lines = append(lines, m.objects(c)...)
	for i := range lines {
		lines[i] = m.aged(lines[i])
	}
	return lines
}

func (m *model) pending(p *web.PendingChange) string {
	s := statustable.PendingChange(p) + fmt.Sprintf(" (since %s, pre-checks: %d", m.when(&p.Since), p.Tries)
	if p.NextTryAt != nil {
		s += ", next in " + statustable.Age(p.NextTryAt.Sub(m.seen()))
	}
	return s + ")"
}

// detailFields are the names and values of a consumer, in order.
func (m *model) detailFields(c *web.ConsumerStatus) [][2]string {
	topics := strings.Join(c.Topics, ", ")
	if c.TopicsRegex != "" {
		topics = c.TopicsRegex + " matches " + topics
	}
	cluster := strings.Join(c.Brokers, ", ")
	if c.Cluster != "" {
		cluster = c.Cluster + ": " + cluster
	}
	lag := statustable.Unknown
	if c.Lag != nil {
		lag = fmt.Sprint(*c.Lag)
	}
	fields := [][2]string{
		{"cluster", cluster},
		{"topics", topics},
		{"group", c.Group},
		{"member", fmt.Sprintf("%s, generation %d", orUnknown(strings.Join(c.MemberIDs, ", ")), c.Generation)},
		{"sink", c.Sink},
		{"lag", fmt.Sprintf("%s records, lag time %s, catch-up %s", lag, statustable.Span(c.LagSeconds), statustable.Span(c.CatchUpSeconds))},
		{"records", fmt.Sprintf("%d, %d bytes, %.1f records/s", c.RecordsTotal, c.BytesTotal, c.RecordsPerSecond)},
		{"last record", m.when(c.LastRecordAt)},
		{"last flush", m.when(c.LastFlushAt)},
		{"created", m.when(&c.CreatedAt)},
		{"rebalances", fmt.Sprintf("%d, restarts after an error: %d", c.RebalancesTotal, c.RestartsTotal)},
	}
	if o := c.Objects; o != nil {
		published := fmt.Sprintf("%d, %s", o.Total, statustable.Size(o.BytesTotal))
		fields = append(fields, [2]string{"published", published}, [2]string{"not published", statustable.Held(o)})
	}
	return fields
}

func orUnknown(s string) string {
	if s == "" {
		return statustable.Unknown
	}
	return s
}

// when returns a time with its age.
func (m *model) when(t *time.Time) string {
	if t == nil || t.IsZero() {
		return statustable.Unknown
	}
	return fmt.Sprintf("%s (%s ago)", t.Local().Format(time.DateTime), statustable.Age(m.seen().Sub(*t)))
}

// wrap returns a text in as many lines as it needs.
func (m *model) wrap(s string, st style) (lines []line) {
	for _, l := range statustable.Wrap(statustable.Clean(s), m.width) {
		lines = append(lines, styled(l, st))
	}
	return lines
}

// partitions is the table of the assigned partitions.
func partitions(c *web.ConsumerStatus) []line {
	if len(c.Partitions) == 0 {
		return []line{text("no partition is assigned")}
	}
	topic := len("TOPIC")
	for _, p := range c.Partitions {
		topic = min(30, max(topic, statustable.ColumnsOf(statustable.Clean(p.Topic))))
	}
	row := func(name string, cells ...string) string {
		name = statustable.Fit(statustable.Clean(name), topic, false)
		s := name + strings.Repeat(" ", topic-statustable.ColumnsOf(name))
		for i, width := range []int{10, 13, 13, 10, 9, 9, 13} {
			s += fmt.Sprintf(" %*s", width, cells[i])
		}
		return s
	}
	lines := []line{styled(row("TOPIC", "PARTITION", "POSITION", "END", "LAG", "LAG TIME", "CATCH-UP", "COMMITTED"), style{bold: true})}
	for _, p := range c.Partitions {
		lag, committed := statustable.Unknown, statustable.Unknown
		if p.Lag != nil {
			lag = fmt.Sprint(*p.Lag)
		}
		if p.CommittedOffset >= 0 {
			committed = fmt.Sprint(p.CommittedOffset)
		}
		lines = append(lines, text(row(p.Topic, fmt.Sprint(p.Partition), fmt.Sprint(p.NextOffset), fmt.Sprint(p.HighWaterMark),
			lag, statustable.Span(p.LagSeconds), statustable.Span(p.CatchUpSeconds), committed)))
	}
	return lines
}
