package logging

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"syscall"
)

// IsJournal reports whether w is connected to the journal of systemd. stream is
// JOURNAL_STREAM: the device and the inode of the stream that systemd has opened. They are
// compared, because a process inherits the variable from one that had another stderr
// (systemd.exec(5)).
func IsJournal(w io.Writer, stream string) bool {
	file, ok := w.(interface{ Stat() (fs.FileInfo, error) })
	if !ok || stream == "" {
		return false
	}
	info, err := file.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// The prefixes of a line that name its priority, see sd-daemon(3).
const (
	ErrorPrefix   = "<3>"
	warningPrefix = "<4>"
	infoPrefix    = "<6>"
	debugPrefix   = "<7>"
)

// A journalHandler writes lines for the journal. It has one handler for each priority,
// because a handler of slog writes a line by itself, with one call.
type journalHandler struct{ debug, info, warning, error slog.Handler }

func newJournalHandler(w io.Writer, json bool) journalHandler {
	of := func(prefix string) slog.Handler { return newHandler(prefixed{w, prefix}, json, withoutTime) }
	return journalHandler{of(debugPrefix), of(infoPrefix), of(warningPrefix), of(ErrorPrefix)}
}

// withoutTime removes the time of a line.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// of returns the handler for lines of a level.
func (h journalHandler) of(l slog.Level) slog.Handler {
	switch {
	case l >= slog.LevelError:
		return h.error
	case l >= slog.LevelWarn:
		return h.warning
	case l >= slog.LevelInfo:
		return h.info
	}
	return h.debug
}

// Enabled implements [slog.Handler].
func (h journalHandler) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements [slog.Handler].
func (h journalHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.of(r.Level).Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.each(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup implements [slog.Handler].
func (h journalHandler) WithGroup(name string) slog.Handler {
	return h.each(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (h journalHandler) each(with func(slog.Handler) slog.Handler) slog.Handler {
	return journalHandler{with(h.debug), with(h.info), with(h.warning), with(h.error)}
}

// A prefixed writer writes each line with a prefix, by one call.
type prefixed struct {
	w      io.Writer
	prefix string
}

// Write implements [io.Writer].
func (p prefixed) Write(line []byte) (int, error) {
	n, err := p.w.Write(append([]byte(p.prefix), line...))
	return max(0, n-len(p.prefix)), err
}
