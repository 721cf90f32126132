package logging

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// stream returns a pipe, what JOURNAL_STREAM says of it, and a function that returns what
// was written.
func stream(t *testing.T) (w *os.File, id string, written func() string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	info, err := w.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	return w, fmt.Sprintf("%d:%d", stat.Dev, stat.Ino), func() string {
		w.Close()
		defer r.Close()
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

// logAll logs one line of each level, with attributes of each kind.
func logAll(l *Log) {
	log := l.With("consumer", "orders")
	log.Debug("d")
	log.Info("i", "text", "two\nlines \x1b[31m")
	log.WithGroup("g").Warn("w\nx", "time", 1)
	log.Error("e", "error", io.EOF)
}

// TestJournalLines: in the journal, each line begins with its priority and has no time.
// Otherwise it has a time and no priority. A line break in a value is never one of the log.
func TestJournalLines(t *testing.T) {
	for _, tt := range []struct {
		name    string
		json    bool
		journal bool
		want    string
	}{
		{"text", false, true, `<7>level=DEBUG msg=d consumer=orders
<6>level=INFO msg=i consumer=orders text="two\nlines \x1b[31m"
<4>level=WARN msg="w\nx" consumer=orders g.time=1
<3>level=ERROR msg=e consumer=orders error=EOF
`},
		{"json", true, true, `<7>{"level":"DEBUG","msg":"d","consumer":"orders"}
<6>{"level":"INFO","msg":"i","consumer":"orders","text":"two\nlines \u001b[31m"}
<4>{"level":"WARN","msg":"w\nx","consumer":"orders","g":{"time":1}}
<3>{"level":"ERROR","msg":"e","consumer":"orders","error":"EOF"}
`},
		{"text elsewhere", false, false, `time=T level=DEBUG msg=d consumer=orders
time=T level=INFO msg=i consumer=orders text="two\nlines \x1b[31m"
time=T level=WARN msg="w\nx" consumer=orders g.time=1
time=T level=ERROR msg=e consumer=orders error=EOF
`},
		{"json elsewhere", true, false, `{"time":"T","level":"DEBUG","msg":"d","consumer":"orders"}
{"time":"T","level":"INFO","msg":"i","consumer":"orders","text":"two\nlines \u001b[31m"}
{"time":"T","level":"WARN","msg":"w\nx","consumer":"orders","g":{"time":1}}
{"time":"T","level":"ERROR","msg":"e","consumer":"orders","error":"EOF"}
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, id, written := stream(t)
			if !tt.journal {
				id += "0" // of another stream
			}
			t.Setenv("JOURNAL_STREAM", id)
			logAll(New(w, "debug", tt.json))
			got := regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)`).ReplaceAllString(written(), "T")
			if got != tt.want {
				t.Errorf("logged:\n%swant:\n%s", got, tt.want)
			}
		})
	}
}

// TestOnlyTheStreamOfSystemdIsTheJournal: JOURNAL_STREAM may be inherited, or missing.
func TestOnlyTheStreamOfSystemdIsTheJournal(t *testing.T) {
	w, id, written := stream(t)
	if !IsJournal(w, id) {
		t.Error("the stream is not recognised")
	}
	other, _, otherWritten := stream(t)
	for name, tt := range map[string]struct {
		w  io.Writer
		id string
	}{
		"no variable":     {w, ""},
		"another stream":  {other, id},
		"malformed":       {w, "x"},
		"the device only": {w, strings.Split(id, ":")[0]},
		"no file":         {&bytes.Buffer{}, id},
	} {
		if IsJournal(tt.w, tt.id) {
			t.Errorf("%s: it is taken for the journal", name)
		}
	}
	written()
	otherWritten()
	if IsJournal(w, id) {
		t.Error("a closed file is taken for the journal")
	}
}

// TestLevelOfTheFile: the level that the file names replaces the level of the flag, in loggers
// that exist already, too. Each change is one line, at any level.
func TestLevelOfTheFile(t *testing.T) {
	for _, flag := range []string{"debug", "info", "warn", "error"} {
		var out bytes.Buffer
		l := New(&out, flag, false)
		child := l.With("a", 1).WithGroup("g")
		lines := func() []string { defer out.Reset(); return strings.Split(strings.TrimSpace(out.String()), "\n") }
		now := flag
		for _, file := range []string{"", "debug", "debug", "error", "warn", "info", "error", ""} {
			out.Reset()
			l.SetLevel(file)
			want := file
			if file == "" {
				want = flag
			}
			got := lines()
			if change := "msg=\"log level changed\" from=" + now + " to=" + want; now == want && got[0] != "" ||
				now != want && (len(got) != 1 || !strings.HasSuffix(got[0], change)) {
				t.Errorf("flag %s, from %s to %q: %q", flag, now, file, got)
			}
			now = want
			for level := slog.LevelDebug; level <= slog.LevelError; level += 4 {
				child.Log(t.Context(), level, "x")
				if visible := lines()[0] != ""; visible != (level >= levelOf(want)) {
					t.Errorf("level %s: a line of %s is visible: %v", want, level, visible)
				}
			}
		}
	}
}

// TestLinesOfLibrariesAreCaptured: what a library writes to the standard logger is a line of
// the log.
func TestLinesOfLibrariesAreCaptured(t *testing.T) {
	flags, to := log.Flags(), log.Writer()
	defer func() { log.SetFlags(flags); log.SetOutput(to) }()
	var out bytes.Buffer
	New(&out, "info", false).CaptureStandard()
	log.Println("http2: something\nodd")
	if got := out.String(); !strings.HasSuffix(got, `level=WARN msg="library reported a message" message="http2: something\nodd"`+"\n") {
		t.Errorf("%q", got)
	}
}
