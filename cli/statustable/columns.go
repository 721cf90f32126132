package statustable

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"kcagent/agent/web"
)

// A Column is one column of the table of consumers.
type Column struct {
	Title   string
	Largest bool // whether the largest value comes first when the table is sorted by it

	width int  // maximum, unless the table is wider than its columns need
	right bool // align right, for numbers
	tail  bool // keep the end of a text that does not fit
	drop  int  // the column with the largest number is dropped first in a narrow table; 0 for never
	text  func(c *web.ConsumerStatus, now time.Time) string

	// Compare orders consumers by the value of the column, the smallest one first. A value
	// that is unknown is smaller than all others.
	Compare func(a, b *web.ConsumerStatus) int
}

// Columns are all columns, in their order. The widths and the spaces between them add up to
// Width.
var Columns = []Column{
	{
		Title: "NAME", width: 18,
		text:    func(c *web.ConsumerStatus, _ time.Time) string { return c.Name },
		Compare: func(a, b *web.ConsumerStatus) int { return cmp.Compare(a.Name, b.Name) },
	},
	{
		Title: "STATUS", width: 8,
		text:    func(c *web.ConsumerStatus, _ time.Time) string { return string(c.Status) },
		Compare: web.CompareUrgency,
	},
	{
		Title: "SINCE", Largest: true, width: 5, right: true, drop: 3,
		text:    func(c *web.ConsumerStatus, now time.Time) string { return Age(now.Sub(c.StatusSince)) },
		Compare: func(a, b *web.ConsumerStatus) int { return a.StatusSince.Compare(b.StatusSince) },
	},
	{
		Title: "LAG", Largest: true, width: 6, right: true, drop: 1,
		text:    func(c *web.ConsumerStatus, _ time.Time) string { return Count(c.Lag) },
		Compare: func(a, b *web.ConsumerStatus) int { return compareKnown(a.Lag, b.Lag) },
	},
	{
		Title: "LAG TIME", Largest: true, width: 8, right: true, drop: 4,
		text:    func(c *web.ConsumerStatus, _ time.Time) string { return Span(c.LagSeconds) },
		Compare: func(a, b *web.ConsumerStatus) int { return compareKnown(a.LagSeconds, b.LagSeconds) },
	},
	{
		Title: "CATCH-UP", Largest: true, width: 8, right: true, drop: 6,
		text:    func(c *web.ConsumerStatus, _ time.Time) string { return Span(c.CatchUpSeconds) },
		Compare: func(a, b *web.ConsumerStatus) int { return compareKnown(a.CatchUpSeconds, b.CatchUpSeconds) },
	},
	{
		Title: "RATE/S", Largest: true, width: 6, right: true, drop: 2,
		text:    func(c *web.ConsumerStatus, _ time.Time) string { return Figure(c.RecordsPerSecond) },
		Compare: func(a, b *web.ConsumerStatus) int { return cmp.Compare(a.RecordsPerSecond, b.RecordsPerSecond) },
	},
	{
		Title: "RECORDS", Largest: true, width: 7, right: true, drop: 5,
		text:    func(c *web.ConsumerStatus, _ time.Time) string { return Figure(float64(c.RecordsTotal)) },
		Compare: func(a, b *web.ConsumerStatus) int { return cmp.Compare(a.RecordsTotal, b.RecordsTotal) },
	},
	{
		Title: "GROUP", width: 12, drop: 7,
		text:    func(c *web.ConsumerStatus, _ time.Time) string { return c.Group },
		Compare: func(a, b *web.ConsumerStatus) int { return cmp.Compare(a.Group, b.Group) },
	},
	{
		Title: "SINK", width: 13, tail: true, drop: 8,
		text:    func(c *web.ConsumerStatus, _ time.Time) string { return strings.TrimPrefix(c.Sink, "file:") },
		Compare: func(a, b *web.ConsumerStatus) int { return cmp.Compare(a.Sink, b.Sink) },
	},
}

// Fields are the fields of /status that the table shows, for its parameter fields.
const Fields = "agent,config,summary,consumers.name,consumers.status,consumers.status_since," +
	"consumers.lag,consumers.lag_seconds,consumers.catch_up_seconds,consumers.records_per_second,consumers.records_total," +
	"consumers.group,consumers.sink,consumers.objects,consumers.last_error,consumers.pending_change"

func compareKnown[T int64 | float64](a, b *T) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	return cmp.Compare(*a, *b)
}

// A Layout is the columns of a table and their widths.
type Layout struct {
	columns []*Column
	widths  []int
}

// LayOut returns the columns that fit into a width for some consumers. The least important
// columns are dropped if the table is narrow. Texts that are longer than their column get
// the space that is left.
func LayOut(consumers []web.ConsumerStatus, width int) Layout {
	l := Layout{}
	for i := range Columns {
		l.columns = append(l.columns, &Columns[i])
	}
	needs := make(map[*Column]int)
	for _, c := range l.columns {
		needs[c] = c.width
		if !c.right { // numbers always fit
			needs[c] = len(c.Title)
			for i := range consumers {
				needs[c] = max(needs[c], ColumnsOf(Clean(c.text(&consumers[i], time.Time{}))))
			}
		}
	}
	total := func() int {
		sum := len(l.columns) - 1
		for _, c := range l.columns {
			sum += min(c.width, needs[c])
		}
		return sum
	}
	for total() > width && len(l.columns) > 2 {
		least := slices.MaxFunc(l.columns, func(a, b *Column) int { return cmp.Compare(a.drop, b.drop) })
		l.columns = slices.DeleteFunc(l.columns, func(c *Column) bool { return c == least })
	}
	free := width - total()
	for _, c := range l.columns {
		more := min(max(0, free), max(0, needs[c]-c.width))
		l.widths = append(l.widths, min(c.width, needs[c])+more)
		free -= more
	}
	return l
}

// Columns returns the indexes in [Columns] of the columns that fit.
func (l Layout) Columns() []int {
	var at []int
	for i := range Columns {
		if slices.Contains(l.columns, &Columns[i]) {
			at = append(at, i)
		}
	}
	return at
}

// Titles returns the title of each column, as wide as the column.
func (l Layout) Titles() []string {
	cells := make([]string, len(l.columns))
	for i, c := range l.columns {
		cells[i] = c.cell(c.Title, l.widths[i])
	}
	return cells
}

// Cells returns the texts of a consumer, each as wide as its column and without characters
// that a terminal would interpret. Ages are relative to now.
func (l Layout) Cells(s *web.ConsumerStatus, now time.Time) []string {
	cells := make([]string, len(l.columns))
	for i, c := range l.columns {
		cells[i] = c.cell(Clean(c.text(s, now)), l.widths[i])
	}
	return cells
}

// cell returns a text that is exactly as wide as the column.
func (c *Column) cell(text string, width int) string {
	text = Fit(text, width, c.tail)
	pad := strings.Repeat(" ", width-ColumnsOf(text))
	if c.right {
		return pad + text
	}
	return text + pad
}
