package top

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kcagent/agent/consumer"
	"kcagent/agent/plan"
	"kcagent/agent/web"
	"kcagent/cli/statustable"
	"kcagent/config"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// many returns the status of an agent with n consumers c-0000, c-0001, …, of which every
// tenth is in ERROR.
func many(n int) web.Status {
	s := web.Status{
		Agent:   web.AgentStatus{Version: "1.2.3", Hostname: "host-1", PID: 42, StartedAt: noon.Add(-time.Hour)},
		Config:  web.ConfigStatus{Path: "/etc/kcagent/consumers.yaml", State: "synced", AppliedAt: ptr(noon.Add(-time.Minute))},
		Summary: map[consumer.State]int{},
	}
	for i := range n {
		c := web.ConsumerStatus{
			Name: fmt.Sprintf("c-%04d", i), Status: consumer.Running, Desired: config.Running, StatusSince: noon.Add(-time.Duration(i) * time.Second),
			Group: fmt.Sprintf("kcagent-c-%04d", i), Sink: fmt.Sprintf("file:/data/c-%04d.log", i), RecordsTotal: int64(i), Lag: ptr(int64(i * 7 % 1000)),
		}
		if i%10 == 3 {
			c.Status, c.LastError = consumer.Failing, ptr(fmt.Sprintf("write /data/c-%04d.log: no space left on device", i))
		}
		s.Summary[c.Status]++
		s.Consumers = append(s.Consumers, c)
	}
	return s
}

// modelOf returns a model that has received a status.
func modelOf(s web.Status) *model {
	m := newModel("http://127.0.0.1:8080")
	m.width, m.height, m.now = 100, 24, noon
	m.receive(answer{at: noon, status: s})
	return m
}

// screenOf returns what the screen shows, as text.
func screenOf(m *model) string {
	var b strings.Builder
	for _, l := range m.frame() {
		for _, s := range l {
			b.WriteString(s.text)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// names returns the names of consumers on the screen, in order.
func names(m *model) (found []string) {
	for line := range strings.Lines(screenOf(m)) {
		if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, "c-") {
			found = append(found, name)
		}
	}
	return found
}

// press presses keys, and returns the effect of the last one.
func press(m *model, keys ...string) (last effect) {
	for _, k := range keys {
		last = m.press(k)
		m.frame()
	}
	return last
}

// selected returns the name in the row that is marked on the screen.
func selected(t *testing.T, m *model) string {
	t.Helper()
	for _, l := range m.frame()[:m.height-1] {
		if len(l) > 2 && l[0].style.reverse && l[2].style.reverse {
			return strings.TrimSpace(l[0].text)
		}
	}
	t.Fatalf("no row is marked:\n%s", screenOf(m))
	return ""
}

func TestTableShowsAgentConfigurationAndConsumers(t *testing.T) {
	s := many(4)
	s.Consumers[1].PendingChange = &web.PendingChange{Action: plan.Replace, Fields: []string{"group"}, Error: ptr("group is not empty")}
	m := modelOf(s)
	want := `kcagent 1.2.3 on host-1, pid 42, up 1h, http://127.0.0.1:8080
/etc/kcagent/consumers.yaml: synced, applied 1m ago
4 consumers: 1 ERROR, 3 RUNNING | most urgent first
NAME   STATUS  SINCE    LAG LAG TIME CATCH-UP RATE/S RECORDS GROUP          SINK
c-0003 ERROR      3s     21        -        -      0       3 kcagent-c-0003 /data/c-0003.log
  write /data/c-0003.log: no space left on device
c-0001 RUNNING    1s      7        -        -      0       1 kcagent-c-0001 /data/c-0001.log
  replace of group is pending: group is not empty
c-0000 RUNNING    0s      0        -        -      0       0 kcagent-c-0000 /data/c-0000.log
c-0002 RUNNING    2s     14        -        -      0       2 kcagent-c-0002 /data/c-0002.log
`
	var got strings.Builder
	for line := range strings.Lines(screenOf(m)) {
		got.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	if !strings.HasPrefix(got.String(), want) {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	if n := strings.Count(got.String(), "\n"); n != m.height {
		t.Errorf("%d lines on a screen with %d", n, m.height)
	}
	m.status.Config.State = "rejected"
	for i := range 20 {
		m.status.Config.Problems = append(m.status.Config.Problems, config.Problem{File: "c.yaml", Line: i + 1, Column: 1, Message: "unknown key", Hint: "remove it"})
	}
	text := screenOf(m)
	for _, want := range []string{"rejected; the configuration applied 1m ago stays in force", "  c.yaml:1:1: unknown key\n    hint: remove it\n", "and 36 more lines: see kcagent status", "c-0003 ERROR"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

func TestEachColumnCanBeSortedBy(t *testing.T) {
	m := modelOf(many(30))
	if got := names(m)[:2]; !slices.Equal(got, []string{"c-0003", "c-0013"}) {
		t.Errorf("at the start, the most urgent consumers are not first: %v", got)
	}
	first := map[string]string{
		"NAME": "c-0000", "STATUS": "c-0003", "SINCE": "c-0000", "LAG": "c-0029", "LAG TIME": "c-0000", "CATCH-UP": "c-0000",
		"RATE/S": "c-0000", "RECORDS": "c-0029", "GROUP": "c-0000", "SINK": "c-0000",
	}
	last := map[string]string{"NAME": "c-0029", "STATUS": "c-0000", "SINCE": "c-0029", "LAG": "c-0000", "RECORDS": "c-0000", "GROUP": "c-0029", "SINK": "c-0029"}
	for _, c := range statustable.Columns {
		press(m, "right")
		if got := names(m)[0]; got != first[c.Title] || !strings.Contains(screenOf(m), "by "+c.Title+"\n") {
			t.Errorf("by %s, %s comes first, want %s", c.Title, got, first[c.Title])
		}
		press(m, "r")
		if got := names(m)[0]; last[c.Title] != "" && got != last[c.Title] {
			t.Errorf("by %s reversed, %s comes first, want %s", c.Title, got, last[c.Title])
		}
		marked := 0
		for _, l := range m.frame() {
			for _, s := range l {
				if s.style.bold && s.style.reverse && strings.TrimSpace(s.text) == c.Title {
					marked++
				}
			}
		}
		if marked != 1 {
			t.Errorf("the title %s is not marked", c.Title)
		}
	}
	if press(m, "right"); m.sortBy != byUrgency {
		t.Error("the order by urgency does not follow the last column")
	}
	if press(m, "left", "left", "t"); m.sortBy != byUrgency || m.reversed {
		t.Error("t does not sort by urgency")
	}
}

func TestFiltersSelectConsumers(t *testing.T) {
	m := modelOf(many(200))
	press(m, "/", "0", "1", "1")
	if got := names(m); len(got) != 11 || !strings.Contains(screenOf(m), `11 shown, filter "011"`) { // 0011, 0110 to 0119
		t.Errorf("%v\n%s", got, screenOf(m))
	}
	if press(m, "q", "backspace", "3", "enter"); m.filter != "0113" || m.typing {
		t.Errorf("filter %q, typing %v", m.filter, m.typing)
	}
	if got := names(m); !slices.Equal(got, []string{"c-0113"}) {
		t.Errorf("%v", got)
	}
	for _, text := range []string{"KCAGENT-c-0113", "/data/c-0113", "0113.log: no SPACE"} { // in the group, the sink and the error
		m.filter = text
		if m.arrange(); len(m.rows) != 1 {
			t.Errorf("%q selects %d consumers", text, len(m.rows))
		}
	}
	if press(m, "/", "x"); !strings.Contains(screenOf(m), "no consumer matches") {
		t.Errorf("%s", screenOf(m))
	}
	if press(m, "esc"); m.filter != "" || len(m.rows) != 200 {
		t.Error("Esc does not clear the filter")
	}
	for _, want := range []consumer.State{consumer.Failing, consumer.Running, ""} {
		press(m, "s")
		if m.state != want || want != "" && len(m.rows) != m.status.Summary[want] {
			t.Errorf("state %q with %d rows, want %q", m.state, len(m.rows), want)
		}
	}
	if press(m, "s", "/", "1", "enter", "esc"); len(m.rows) != 200 {
		t.Error("Esc does not clear both filters")
	}
}

// TestSelectedRowIsAlwaysShown, however the user moves among a thousand consumers.
func TestSelectedRowIsAlwaysShown(t *testing.T) {
	m := modelOf(many(1000))
	moves := []string{"down", "pgdn", "end", "up", "pgup", "home", "right", "r", "pgdn", "s", "down", "t", "end", "s", "pgup", "s"}
	for round := range 5 {
		for _, k := range moves {
			press(m, k)
			if got, want := selected(t, m), m.rows[m.cursor].Name; got != want {
				t.Fatalf("round %d, %s: %s is marked, want %s", round, k, got, want)
			}
		}
	}
	press(m, "t", "esc", "home")
	for i := range 200 {
		if press(m, "down"); selected(t, m) != m.rows[i+1].Name {
			t.Fatalf("after %d times Down %s is marked, want %s", i+1, selected(t, m), m.rows[i+1].Name)
		}
	}
	press(m, "end")
	if got := names(m); got[len(got)-1] != "c-0999" || len(got) < 15 {
		t.Errorf("at the end, the screen shows %v", got)
	}
}

// TestSelectionFollowsTheConsumer when the order changes, and goes to the next one when the
// consumer is gone. The first row stays selected until the user moves.
func TestSelectionFollowsTheConsumer(t *testing.T) {
	m := modelOf(many(50))
	worse := many(50)
	worse.Consumers[40].Status = consumer.Failing
	m.receive(answer{at: noon, status: worse})
	if got := selected(t, m); got != "c-0003" {
		t.Errorf("%s is selected", got)
	}
	m.receive(answer{at: noon, status: many(50)})
	press(m, "end", "up")
	chosen := selected(t, m)
	worse = many(50)
	i := slices.IndexFunc(worse.Consumers, func(c web.ConsumerStatus) bool { return c.Name == chosen })
	worse.Consumers[i].Status = consumer.Failing
	m.receive(answer{at: noon, status: worse})
	if got := selected(t, m); got != chosen || m.cursor > 6 {
		t.Errorf("%s in row %d is selected, want %s", got, m.cursor, chosen)
	}
	at := m.cursor
	worse.Consumers = slices.Delete(worse.Consumers, i, i+1)
	m.receive(answer{at: noon, status: worse})
	if got := selected(t, m); got != m.rows[at].Name || got == chosen {
		t.Errorf("%s is selected, want %s", got, m.rows[at].Name)
	}
}

func TestFrameFitsTheScreen(t *testing.T) {
	s := many(300)
	s.Config.State = "rejected"
	s.Config.Problems = config.Problems{{File: "c.yaml", Message: strings.Repeat("long ", 50)}, {Message: "b"}, {Message: "c"}, {Message: "d"}, {Message: "e"}, {Message: "f"}}
	s.Consumers[7].Sink, s.Consumers[3].Group = "file:/日本/"+strings.Repeat("語", 40), strings.Repeat("長", 30)
	m := modelOf(s)
	detail := detailed()
	for _, width := range []int{1, 20, 59, 60, 80, 100, 131, 250} {
		for _, height := range []int{1, 2, 5, 8, 24, 60} {
			m.width, m.height = width, height
			for _, keys := range [][]string{{"t"}, {"end", "right"}, {"?"}, {"q"}, {"/", "a", "b"}, {"esc"}, {"enter"}, {"end"}, {"esc"}} {
				press(m, keys...)
				if m.view == detailView {
					m.detail = &detail
				}
				for _, failure := range []error{nil, errors.New("reach the agent: " + strings.Repeat("x", 300))} {
					m.failure = failure
					frame := m.frame()
					if len(frame) != height {
						t.Fatalf("%d lines on a screen of %dx%d", len(frame), width, height)
					}
					for _, l := range frame {
						n := 0
						for _, s := range l {
							n += statustable.ColumnsOf(s.text)
						}
						if n > width {
							t.Fatalf("a line has %d columns on a screen of %dx%d: %v", n, width, height, l)
						}
					}
				}
				m.failure = nil
			}
			m.view, m.typing = tableView, false
		}
	}
}

func TestNarrowScreenKeepsTheImportantColumns(t *testing.T) {
	m := modelOf(many(5))
	m.width = 60
	text := screenOf(m)
	for _, want := range []string{"NAME   STATUS  SINCE    LAG LAG TIME", "c-0003 ERROR      3s     21"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "SINK") || strings.Contains(text, "GROUP") {
		t.Errorf("the columns do not fit:\n%s", text)
	}
}

// TestValuesOfAnAgentThatDoesNotRespondAreStale, in every view, until it responds again.
func TestValuesOfAnAgentThatDoesNotRespondAreStale(t *testing.T) {
	m := modelOf(many(5))
	d := detailed()
	for _, keys := range [][]string{{}, {"enter"}, {"?"}} {
		press(m, keys...)
		m.detail = &d
		m.receive(answer{at: noon, status: many(5)})
		m.now = noon.Add(12 * time.Second)
		fresh := screenOf(m)
		m.receive(answer{at: m.now, err: errors.New("reach the agent: connection refused")})
		text := screenOf(m)
		want := "STALE: no response since " + noon.Local().Format(time.TimeOnly) + " (12s): reach the agent: connection refused"
		if !strings.Contains(text, want) || strings.Contains(fresh, "STALE") {
			t.Errorf("%q is missing in\n%s", want, text)
		}
		if m.view == helpView {
			continue
		}
		for i, l := range m.frame()[2 : m.height-1] {
			for _, s := range l {
				if strings.TrimSpace(s.text) != "" && !s.style.dim && !s.style.bold {
					t.Errorf("view %d: %q in line %d does not look stale", m.view, s.text, i+2)
				}
			}
		}
		if m.view == tableView && !strings.Contains(text, "c-0003 ERROR      3s") {
			t.Errorf("the ages do not belong to the last response:\n%s", text)
		}
		m.receive(answer{at: m.now, status: many(5)})
		if text := screenOf(m); strings.Contains(text, "STALE") {
			t.Errorf("stale after a response:\n%s", text)
		}
		m.now = noon
	}
}

func TestEscapeSequencesDoNotReachTheTerminal(t *testing.T) {
	hostile := "\x1b]0;owned\a\x1b[2J\u202e\u009b"
	d := detailed()
	s := many(2)
	s.Agent.Version, s.Agent.Hostname, s.Config.Path, s.Config.State = hostile, hostile, hostile, hostile
	s.Config.Problems = config.Problems{{Message: hostile, Hint: hostile}}
	for _, c := range []*web.ConsumerStatus{&s.Consumers[0], &d} {
		c.Name, c.Group, c.Sink, c.LastError = hostile, hostile, hostile, &hostile
		c.Cluster, c.Topics, c.TopicsRegex, c.Brokers, c.MemberIDs, c.Status = hostile, []string{hostile}, hostile, []string{hostile}, []string{hostile}, consumer.State(hostile)
		c.PendingChange = &web.PendingChange{Action: plan.Op(hostile), Fields: []string{hostile}, Error: &hostile}
	}
	d.Partitions[0].Topic, d.Desired = hostile, config.State(hostile)
	m := modelOf(s)
	m.width, m.height = 200, 80
	check := func(what string) {
		t.Helper()
		if text := screenOf(m); strings.ContainsAny(text, "\x1b\a\u202e\u009b") {
			t.Errorf("%s has control characters: %q", what, text)
		}
	}
	check("the table")
	m.failure = errors.New(hostile)
	check("the error")
	press(m, "/", "\x1b", "\u009b")
	check("the filter")
	press(m, "esc", "enter")
	m.selected = hostile
	check("the request of details")
	m.detailErr = errors.New(hostile)
	check("the error of details")
	m.detail = &d
	check("the details")
}

// TestHelpIsShownInPages: a small screen shows each line of the help, one page after another.
func TestHelpIsShownInPages(t *testing.T) {
	m := modelOf(many(3))
	m.width, m.height = 40, 12
	press(m, "?")
	var shown strings.Builder
	for pages := 0; m.view == helpView && pages < 10; pages++ {
		screen := screenOf(m)
		shown.WriteString(screen)
		if press(m, "x"); (m.view == helpView) != strings.Contains(screen, "any key: more") {
			t.Errorf("the footer of page %d does not say what a key does:\n%s", pages+1, screen)
		}
	}
	for _, l := range help(m.width) {
		if got := shown.String(); len(l) > 0 && !strings.Contains(got, l[len(l)-1].text) {
			t.Errorf("no page has %q:\n%s", l[len(l)-1].text, got)
		}
	}
	if press(m, "?"); !strings.Contains(screenOf(m), "select a consumer") {
		t.Errorf("the help does not begin with its first page:\n%s", screenOf(m))
	}
}

func TestKeysOfHelpAndQuit(t *testing.T) {
	m := modelOf(many(3))
	press(m, "enter", "?")
	for _, want := range []string{"filter by a text", "quit", "sort by"} {
		if !strings.Contains(screenOf(m), want) {
			t.Errorf("the help has no %q:\n%s", want, screenOf(m))
		}
	}
	for _, width := range []int{45, 60, 80} {
		m.width, m.height, m.url = width, 40, ""
		if body := strings.SplitN(screenOf(m), "\n", 2)[1]; strings.Contains(body, "…") {
			t.Errorf("the help is cut in %d columns:\n%s", width, body)
		}
	}
	if press(m, "x"); m.view != detailView {
		t.Error("a key does not close the help")
	}
	for _, keys := range [][]string{{"q"}, {"ctrl-c"}, {"?", "q"}, {"/", "a", "ctrl-c"}} {
		if press(modelOf(many(3)), keys...) != quit {
			t.Errorf("%v does not quit", keys)
		}
	}
	if press(m, "esc", "/", "q") == quit {
		t.Error("a q in the filter quits")
	}
	empty := modelOf(web.Status{})
	if press(empty, "down", "enter", "end", "right"); !strings.Contains(screenOf(empty), "no consumers") || empty.view != tableView {
		t.Errorf("%s", screenOf(empty))
	}
	for key, want := range map[string]effect{" ": fetch, "ctrl-l": redraw, "": nothing} {
		if got := press(modelOf(many(3)), key); got != want {
			t.Errorf("%q has the effect %d, want %d", key, got, want)
		}
	}
}
