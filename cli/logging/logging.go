// Package logging creates the log of the agent: its format, its level, which the configuration
// file can change, and the form that systemd's journal expects.
package logging

import (
	"context"
	"io"
	"log"
	"log/slog"
	"os"
	"strings"

	"kcagent/logkey"
)

// A Log is a logger whose level can change. The logger may be used by any goroutine.
type Log struct {
	*slog.Logger
	flag    slog.Level     // of the command line
	level   *slog.LevelVar // in force
	handler slog.Handler   // without a level
}

// New returns a log that writes lines to w: in JSON, or as key=value pairs. level and
// SetLevel's argument are names as in [slog.Level.UnmarshalText]; other names mean INFO.
//
// If w is the journal of systemd, each line begins with its priority and has no time,
// because the journal stores both.
func New(w io.Writer, level string, json bool) *Log {
	l := &Log{flag: levelOf(level), level: new(slog.LevelVar)}
	l.level.Set(l.flag)
	if IsJournal(w, os.Getenv("JOURNAL_STREAM")) {
		l.handler = newJournalHandler(w, json)
	} else {
		l.handler = newHandler(w, json, nil)
	}
	l.Logger = slog.New(leveled{l.handler, l.level})
	return l
}

// SetLevel sets the level that the configuration file names; "" means the level of the command
// line. It logs a change at any level, because the next lines depend on it. It is not safe
// for concurrent use.
func (l *Log) SetLevel(name string) {
	from, to := l.level.Level(), l.flag
	if name != "" {
		to = levelOf(name)
	}
	if from == to {
		return
	}
	l.level.Set(to)
	always := slog.New(l.handler)
	always.Info("log level changed", logkey.From, nameOf(from), logkey.To, nameOf(to))
}

// CaptureStandard redirects Go's standard logger, to which libraries write, to l for the rest
// of the process.
func (l *Log) CaptureStandard() {
	log.SetFlags(0)
	log.SetOutput(libraryLog{l.Logger})
}

// A libraryLog logs the lines of libraries as warnings.
type libraryLog struct{ log *slog.Logger }

// Write implements [io.Writer].
func (l libraryLog) Write(p []byte) (int, error) {
	l.log.Warn("library reported a message", logkey.Message, strings.TrimSpace(string(p)))
	return len(p), nil
}

func levelOf(name string) (level slog.Level) {
	_ = level.UnmarshalText([]byte(name)) // callers have checked the name
	return level
}

// nameOf is the name of a level as in the file and in the flag.
func nameOf(l slog.Level) string { return strings.ToLower(l.String()) }

func newHandler(w io.Writer, json bool, replace func([]string, slog.Attr) slog.Attr) slog.Handler {
	o := &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: replace}
	if json {
		return slog.NewJSONHandler(w, o)
	}
	return slog.NewTextHandler(w, o)
}

// A leveled handler passes on the records of a level or above.
type leveled struct {
	slog.Handler
	level *slog.LevelVar
}

// Enabled implements [slog.Handler].
func (h leveled) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// WithAttrs implements [slog.Handler].
func (h leveled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return leveled{h.Handler.WithAttrs(attrs), h.level}
}

// WithGroup implements [slog.Handler].
func (h leveled) WithGroup(name string) slog.Handler {
	return leveled{h.Handler.WithGroup(name), h.level}
}
