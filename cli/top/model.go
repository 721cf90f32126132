package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/web"
	"kcagent/cli/statustable"
)

// A view is one of the contents of the screen.
type view int

const (
	tableView view = iota
	detailView
	helpView
)

// byUrgency is the order of rows in which consumers that require an action come first.
const byUrgency = -1

// A model is everything that the screen shows. Its methods change it for a key or a response
// of the agent; frame draws it. It is used by one goroutine.
type model struct {
	url           string
	width, height int
	now           time.Time
	view, before  view // before the help

	status   web.Status
	received time.Time // when the last response arrived
	failure  error     // of the last request, nil if it succeeded

	sortBy   int // index in statustable.Columns, or byUrgency
	reversed bool
	filter   string
	typing   bool           // the filter is being typed
	state    consumer.State // only consumers in this state; "" for all

	rows     []*web.ConsumerStatus // of the table, in order
	selected string                // name of the selected consumer; "" for the first row
	cursor   int                   // its index in rows
	offset   int                   // first line of the rows that is shown

	columns      statustable.Layout
	columnsWidth int // of the screen for which columns are; 0 if they are not known

	detail       *web.ConsumerStatus // of the selected consumer, nil if unknown yet
	detailErr    error
	detailOffset int
	helpOffset   int // first line of the help that is shown
}

func newModel(url string) *model {
	return &model{url: url, sortBy: byUrgency, width: statustable.Width, height: 24}
}

// detailName is the consumer whose details are shown, "" if none are.
func (m *model) detailName() string {
	if m.view == detailView || m.view == helpView && m.before == detailView {
		return m.selected
	}
	return ""
}

// An answer is the result of one round of requests.
type answer struct {
	at        time.Time
	status    web.Status
	err       error
	name      string // whose details were requested, "" for none
	detail    *web.ConsumerStatus
	detailErr error
	panicked  any // the value of a panic during the requests; nil if there was none
}

// receive applies the response of the agent. Without one, the model keeps the former values.
func (m *model) receive(a answer) {
	m.failure = a.err
	if a.err != nil {
		return
	}
	m.status, m.received, m.columnsWidth = a.status, a.at, 0
	if a.name != "" && a.name == m.detailName() {
		m.detailErr = a.detailErr
		if a.detail != nil {
			m.detail = a.detail
		}
	}
	m.arrange()
}

// arrange selects and orders the rows, and finds the selected consumer among them.
func (m *model) arrange() {
	m.rows = m.rows[:0]
	for i := range m.status.Consumers {
		if c := &m.status.Consumers[i]; m.matches(c) {
			m.rows = append(m.rows, c)
		}
	}
	slices.SortStableFunc(m.rows, m.compare)
	m.cursor = min(m.cursor, max(0, len(m.rows)-1))
	if m.selected == "" {
		m.cursor = 0
		return
	}
	if i := slices.IndexFunc(m.rows, func(c *web.ConsumerStatus) bool { return c.Name == m.selected }); i >= 0 {
		m.cursor = i
	} else if m.detailName() == "" && len(m.rows) > 0 {
		m.selected = m.rows[m.cursor].Name // the next one, because that one is gone
	}
}

func (m *model) compare(a, b *web.ConsumerStatus) int {
	order := 0
	if m.sortBy == byUrgency {
		order = web.ByUrgency(a, b)
	} else {
		column := &statustable.Columns[m.sortBy]
		if order = column.Compare(a, b); column.Largest {
			order = -order
		}
	}
	if m.reversed {
		order = -order
	}
	return cmp.Or(order, cmp.Compare(a.Name, b.Name))
}

// matches reports whether a consumer passes the filters. The text is searched in what the
// row shows.
func (m *model) matches(c *web.ConsumerStatus) bool {
	if m.state != "" && c.Status != m.state {
		return false
	}
	if m.filter == "" {
		return true
	}
	texts := []string{c.Name, string(c.Status), c.Group, c.Sink}
	for _, n := range statustable.Notes(c) {
		texts = append(texts, n.Text)
	}
	return strings.Contains(strings.ToLower(strings.Join(texts, "\n")), strings.ToLower(m.filter))
}

// An effect is the reaction of the program to a key.
type effect int

const (
	nothing effect = iota
	fetch
	redraw
	quit
)

// press handles a key, which is a character or one of the names in keys; "" for another one.
func (m *model) press(key string) effect {
	switch {
	case key == "ctrl-c":
		return quit
	case key == "ctrl-l":
		return redraw
	case m.typing:
		m.typeFilter(key)
		return nothing
	case key == "q":
		return quit
	case m.view == helpView && m.helpEnd() < len(help(m.width)):
		m.helpOffset = m.helpEnd()
		return nothing
	case m.view == helpView:
		m.view, m.helpOffset = m.before, 0
		return nothing
	case key == "?":
		m.view, m.before = helpView, m.view
		return nothing
	case key == " ":
		return fetch
	}
	if m.view == detailView {
		m.pressInDetail(key)
		return nothing
	}
	return m.pressInTable(key)
}

func (m *model) typeFilter(key string) {
	switch {
	case key == "enter":
		m.typing = false
	case key == "esc":
		m.typing, m.filter = false, ""
	case key == "ctrl-u":
		m.filter = ""
	case key == "backspace":
		r := []rune(m.filter)
		m.filter = string(r[:max(0, len(r)-1)])
	case len([]rune(key)) == 1:
		m.filter += key
	}
	m.arrange()
}

func (m *model) pressInTable(key string) effect {
	page := max(1, m.bodyHeight()/2)
	switch key {
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup":
		m.move(-page)
	case "pgdn":
		m.move(page)
	case "home", "g":
		m.move(-len(m.rows))
	case "end", "G":
		m.move(len(m.rows))
	case "right", ">":
		m.sortNext(1)
	case "left", "<":
		m.sortNext(-1)
	case "r":
		m.reversed = !m.reversed
	case "t":
		m.sortBy, m.reversed = byUrgency, false
	case "/":
		m.typing = true
	case "s":
		m.nextState()
	case "esc":
		m.filter, m.state = "", ""
	case "enter":
		if len(m.rows) > 0 {
			m.selected, m.view = m.rows[m.cursor].Name, detailView
			m.detail, m.detailErr, m.detailOffset = nil, nil, 0
			return fetch
		}
	}
	m.arrange()
	return nothing
}

// move moves the selection. From then on it follows its consumer, until it is in the first
// row again.
func (m *model) move(by int) {
	if len(m.rows) == 0 {
		return
	}
	m.cursor = min(max(0, m.cursor+by), len(m.rows)-1)
	m.selected = m.rows[m.cursor].Name
	if m.cursor == 0 {
		m.selected = ""
	}
}

// sortNext sorts by the next column that is shown. The order by urgency comes before the first one.
func (m *model) sortNext(by int) {
	orders := append([]int{byUrgency}, m.layout().Columns()...)
	at := max(0, slices.Index(orders, m.sortBy))
	m.sortBy, m.reversed = orders[(at+by+len(orders))%len(orders)], false
}

// nextState shows only the consumers of the next state that has any.
func (m *model) nextState() {
	states := []consumer.State{""}
	for _, s := range web.StatesByUrgency {
		if m.status.Summary[s] > 0 || s == m.state {
			states = append(states, s)
		}
	}
	m.state = states[(slices.Index(states, m.state)+1)%len(states)]
}

func (m *model) pressInDetail(key string) {
	page := max(1, m.height-4)
	switch key {
	case "esc", "enter", "left", "backspace":
		m.view = tableView
		m.arrange()
	case "up", "k":
		m.detailOffset--
	case "down", "j":
		m.detailOffset++
	case "pgup":
		m.detailOffset -= page
	case "pgdn":
		m.detailOffset += page
	case "home", "g":
		m.detailOffset = 0
	case "end", "G":
		m.detailOffset = 1 << 30
	}
}

func (m *model) layout() statustable.Layout {
	if m.columnsWidth != m.width {
		m.columns, m.columnsWidth = statustable.LayOut(m.status.Consumers, m.width), m.width
	}
	return m.columns
}

// stale says since when the agent does not respond; "" if it does.
func (m *model) stale() string {
	if m.failure == nil {
		return ""
	}
	return fmt.Sprintf("STALE: no response since %s (%s): %s", m.received.Local().Format(time.TimeOnly),
		statustable.Age(m.now.Sub(m.received)), statustable.Clean(m.failure.Error()))
}

// seen is the time that ages are relative to: the time of the last response while the agent does
// not respond.
func (m *model) seen() time.Time {
	if m.failure != nil {
		return m.received
	}
	return m.now
}
