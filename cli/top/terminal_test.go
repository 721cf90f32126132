package top

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/gdamore/tcell/v3/vt"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"kcagent/agent/web"
	"kcagent/cli/client"
	"kcagent/e2e/loud"
	"kcagent/e2e/wait"
)

// actAsTop makes the test binary run top for the agent at a URL; actInterval is the time
// between two requests.
const (
	actAsTop    = "KCAGENT_TEST_TOP_URL"
	actInterval = "KCAGENT_TEST_TOP_INTERVAL"
)

func TestMain(m *testing.M) {
	url := os.Getenv(actAsTop)
	if url == "" {
		goleak.VerifyTestMain(m)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c, err := client.New(url)
	if err == nil {
		var interval time.Duration
		interval, err = time.ParseDuration(os.Getenv(actInterval))
		err = errors.Join(err, Run(ctx, Agent{Client: c, URL: url, Interval: interval}))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// An agentStub answers like an agent with 200 consumers, unless it is down.
type agentStub struct {
	*httptest.Server
	down atomic.Bool
}

func startAgent(t *testing.T) *agentStub {
	t.Helper()
	a := &agentStub{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.down.Load() {
			panic(http.ErrAbortHandler)
		}
		s := many(200)
		s.Consumers[3].LastError = ptr("no space left\x1b[2J\x1b]0;owned\a")
		name, one := strings.CutPrefix(r.URL.Path, "/status/")
		var body any = s
		for _, c := range s.Consumers {
			if one && c.Name == name {
				c.Partitions = []web.PartitionStatus{{Topic: "orders", Partition: 7, NextOffset: 4711}}
				body = c
			}
		}
		_ = json.NewEncoder(w).Encode(body)
	}))
	t.Cleanup(a.Close)
	return a
}

// A terminal runs top on a pseudo-terminal, and shows what a person would see.
type terminal struct {
	cmd       *exec.Cmd
	ptmx, tty *os.File
	emulator  vt.MockTerm
	before    unix.Termios
	exited    chan error
	mu        sync.Mutex
	raw       strings.Builder
	size      vt.Coord
}

// openTerminal runs top on a terminal until the test ends.
func openTerminal(t *testing.T, url string, columns, rows int, env ...string) *terminal {
	t.Helper()
	ptmx, tty, err := pty.Open()
	if err != nil {
		loud.Skip(t, "KCAGENT_REQUIRE_PTY", "the system has no pseudo-terminals: "+err.Error())
	}
	term := &terminal{ptmx: ptmx, tty: tty, exited: make(chan error, 1), emulator: vt.NewMockTerm(vt.MockOptSize{X: vt.Col(columns), Y: vt.Row(rows)})}
	if err := term.emulator.Start(); err != nil {
		t.Fatal(err)
	}
	term.before = term.settings(t)
	term.resize(t, columns, rows)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	term.cmd = exec.Command(self)
	term.cmd.Env = append(append(os.Environ(), "TERM=xterm-256color", "LC_ALL=C.UTF-8", "NO_COLOR=", actAsTop+"="+url, actInterval+"=100ms"), env...)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = tty, tty, tty
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		buf := make([]byte, 1<<16)
		for {
			n, err := ptmx.Read(buf)
			if err != nil {
				return
			}
			term.mu.Lock()
			term.raw.Write(buf[:n])
			term.mu.Unlock()
			_, _ = term.emulator.Write(buf[:n])
		}
	}()
	go func() { term.exited <- term.cmd.Wait() }()
	t.Cleanup(func() {
		_ = term.cmd.Process.Kill()
		_ = tty.Close()
		_ = ptmx.Close()
		<-read
		_ = term.emulator.Stop()
		if t.Failed() {
			t.Logf("the screen is\n%s", term.screen())
		}
	})
	return term
}

func (term *terminal) settings(t *testing.T) unix.Termios {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(term.tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

func (term *terminal) resize(t *testing.T, columns, rows int) {
	t.Helper()
	term.mu.Lock()
	term.size = vt.Coord{X: vt.Col(columns), Y: vt.Row(rows)}
	term.mu.Unlock()
	term.emulator.SetSize(term.size)
	if err := pty.Setsize(term.ptmx, &pty.Winsize{Rows: uint16(rows), Cols: uint16(columns)}); err != nil {
		t.Fatal(err)
	}
}

// screen returns what is on the screen.
func (term *terminal) screen() string {
	var b strings.Builder
	for y := range term.size.Y {
		for x := vt.Col(0); x < term.size.X; {
			cell := term.emulator.GetCell(vt.Coord{X: x, Y: y})
			if cell.C == "" {
				cell.C = " "
			}
			b.WriteString(cell.C)
			x += vt.Col(max(1, cell.W))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (term *terminal) output() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.raw.String()
}

func (term *terminal) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := term.ptmx.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// shows waits until the screen has a text, and none of the others.
func (term *terminal) shows(t *testing.T, want string, none ...string) {
	t.Helper()
	wait.For(t, wait.Timeout, fmt.Sprintf("%q on the screen", want), func() error {
		text := term.screen()
		if !regexp.MustCompile(`(?m)` + want).MatchString(text) {
			return errors.New("it is not there")
		}
		for _, n := range none {
			if strings.Contains(text, n) {
				return fmt.Errorf("%q is there", n)
			}
		}
		return nil
	})
}

// ended waits for the end of top, and checks that the terminal is as before.
func (term *terminal) ended(t *testing.T, success bool) {
	t.Helper()
	if err := <-term.exited; (err == nil) != success {
		t.Errorf("top ended with %v", err)
	}
	if got := term.settings(t); got != term.before {
		t.Errorf("the terminal has the settings %+v, before it had %+v", got, term.before)
	}
	wait.For(t, wait.Timeout, "the normal screen and the cursor", func() error {
		out := term.output()
		if left, entered := strings.LastIndex(out, "\x1b[?1049l"), strings.LastIndex(out, "\x1b[?1049h"); entered < 0 || left < entered {
			return errors.New("the normal screen is not back")
		}
		if strings.LastIndex(out, "\x1b[?25h") < strings.LastIndex(out, "\x1b[?25l") {
			return errors.New("the cursor is hidden")
		}
		return nil
	})
}

const (
	keyEnter, keyEsc, keyEnd, keyDown, keyRight = "\r", "\x1b", "\x1b[F", "\x1b[B", "\x1b[C"
)

// TestTopOnATerminal sorts, filters, scrolls, shows details, survives an agent that does not
// respond and a new size, and quits.
func TestTopOnATerminal(t *testing.T) {
	agent := startAgent(t)
	term := openTerminal(t, agent.URL, 100, 24)
	term.shows(t, `^c-0003 +ERROR`)
	term.shows(t, `^NAME +STATUS +SINCE +LAG LAG TIME CATCH-UP RATE/S RECORDS GROUP +SINK`)
	term.press(t, keyEnd)
	term.shows(t, `^c-0199 +RUNNING`, "c-0003")
	term.press(t, keyRight)
	term.shows(t, `by NAME`)
	term.press(t, "/0113"+keyEnter)
	term.shows(t, `^c-0113 `, "c-0199")
	term.press(t, keyEnter)
	term.shows(t, `^orders +7 +4711 `)
	term.press(t, keyEsc)
	term.shows(t, `^c-0113 `, "4711")
	term.press(t, keyEsc)
	term.shows(t, `^c-0112 `, "filter \"")
	term.press(t, "t\x1b[H")
	term.shows(t, `^c-0003 `)
	term.press(t, keyDown+"?")
	term.shows(t, `filter by a text`)
	term.press(t, "x")
	agent.down.Store(true)
	term.shows(t, `^STALE: no response since \d\d:\d\d:\d\d \(\d+s\): reach the agent`)
	agent.down.Store(false)
	term.shows(t, `^c-0003 +ERROR`, "STALE")
	term.resize(t, 60, 12)
	term.shows(t, `^NAME +STATUS +SINCE +LAG LAG TIME CATCH-UP RATE/S RECORDS *$`, "SINK")
	term.shows(t, `q quit`)
	term.press(t, "q")
	term.ended(t, true)
	if out := term.output(); strings.Contains(out, "owned\a") {
		t.Error("an escape sequence of an error reached the terminal")
	}
	if out := term.output(); !strings.Contains(out, "\x1b[31m") {
		t.Error("ERROR is not red")
	}
}

// TestTerminalIsRestored, however top ends.
func TestTerminalIsRestored(t *testing.T) {
	for _, tt := range []struct {
		name    string
		env     []string
		end     func(t *testing.T, term *terminal)
		success bool
	}{
		{"Ctrl-C", nil, func(t *testing.T, term *terminal) { term.press(t, "\x03") }, true},
		{"SIGTERM", nil, func(t *testing.T, term *terminal) {
			if err := term.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"panic", []string{actInterval + "=0s"}, nil, false}, // a ticker cannot have this interval
	} {
		t.Run(tt.name, func(t *testing.T) {
			term := openTerminal(t, startAgent(t).URL, 80, 24, tt.env...)
			if tt.end != nil {
				term.shows(t, `^c-0003 +ERROR`)
				tt.end(t, term)
			}
			term.ended(t, tt.success)
		})
	}
}

func TestNoColourWithoutTheUsersConsent(t *testing.T) {
	term := openTerminal(t, startAgent(t).URL, 80, 24, "NO_COLOR=1")
	term.shows(t, `^c-0003 +ERROR`)
	term.press(t, "q")
	term.ended(t, true)
	if colour := regexp.MustCompile(`\x1b\[[0-9;]*3[0-9][0-9;]*m`).FindString(term.output()); colour != "" {
		t.Errorf("a colour was sent: %q", colour)
	}
}

func TestTopNeedsATerminal(t *testing.T) {
	agent := startAgent(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), actAsTop+"="+agent.URL, actInterval+"=1s")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "must be a terminal; use kcagent status --watch") || strings.Contains(string(out), "\x1b") {
		t.Errorf("%v, %q", err, out)
	}
	term := openTerminal(t, agent.URL, 80, 24, "TERM=dumb")
	if err := <-term.exited; err == nil {
		t.Error("top runs on a terminal without a full-screen mode")
	}
}

// TestFirstRequestMustSucceed: an agent that is not there is an error, before the screen
// changes.
func TestFirstRequestMustSucceed(t *testing.T) {
	term := openTerminal(t, "http://127.0.0.1:1", 200, 24)
	if err := <-term.exited; err == nil {
		t.Error("top succeeds without an agent")
	}
	term.shows(t, `check that it runs`)
	if strings.Contains(term.output(), "\x1b") {
		t.Errorf("the screen was changed: %q", term.output())
	}
}

// TestPanicOfARequestReachesTheLoop, which restores the terminal.
func TestPanicOfARequestReachesTheLoop(t *testing.T) {
	f := &fetcher{answers: make(chan answer, 1)} // without a context
	f.start("")
	if a := <-f.answers; a.panicked == nil {
		t.Error("the panic is lost")
	}
}

func TestRequestAsksForWhatIsShownOnly(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		if strings.HasSuffix(r.URL.Path, "/gone") {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(many(1))
	}))
	defer server.Close()
	c, err := client.New(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	request(t.Context(), c, "")
	if len(asked) != 1 || !strings.HasPrefix(asked[0], "/status?fields=agent,config,summary,consumers.name,") || strings.Contains(asked[0], "partitions") {
		t.Errorf("requested %q", asked)
	}
	if a := request(t.Context(), c, "gone"); a.err != nil || a.detail != nil || a.detailErr == nil || !strings.Contains(a.detailErr.Error(), "terminated") {
		t.Errorf("got %+v", a)
	}
	if got := redacted("https://user:swordfish@host:1"); got != "https://host:1" {
		t.Errorf("the URL is shown as %s", got)
	}
}
