package config

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"kcagent/config/filewatch"
	"kcagent/logkey"
)

// An Update is what the watcher read: a valid configuration or problems, never both.
type Update struct {
	Path     string
	Config   *Config  // nil if there are Problems
	Problems Problems // nil if there is a Config
	SHA256   string   // of the content, hex; "" if the file could not be read
	Text     string   // the content, which may have secrets in it and must not be shown; at most 8 MiB
	At       time.Time
}

// A Watcher reads the configuration file and parses it again after each edit. Invalid
// content is an update, too, and so is the edit that reverts it. Package filewatch says
// when an edit is noticed.
type Watcher struct {
	file    *filewatch.File
	log     *slog.Logger
	updates chan Update
	getenv  func(string) (string, bool)
}

// NewWatcher returns a watcher of the file at path. It accesses no file before Run.
// getenv is os.LookupEnv except in tests.
func NewWatcher(path string, getenv func(string) (string, bool), o filewatch.Options) *Watcher {
	return &Watcher{
		file: filewatch.NewFile(path, o), log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		updates: make(chan Update, 1), getenv: getenv,
	}
}

// Updates returns the channel that receives what Run reads, the first file included. It
// holds the newest Update only: one that was not received yet is replaced, so the watcher
// never waits for its reader. The channel is never closed.
func (w *Watcher) Updates() <-chan Update { return w.updates }

// Run watches until ctx ends. It may be called once.
func (w *Watcher) Run(ctx context.Context) { w.file.Run(ctx, w.parse) }

func (w *Watcher) parse(c filewatch.Content) {
	u := Update{Path: c.Path, SHA256: c.SHA256, Text: string(c.Data), At: c.At}
	if c.Err != nil {
		u.Problems = Problems{readProblem(c.Path, c.Err)}
	} else {
		u.Config, u.Problems = Parse(c.Path, c.Data, w.getenv)
	}
	w.log.Info("configuration file read", logkey.Path, c.Path, logkey.Trigger, c.Trigger,
		logkey.SHA256, c.SHA256, logkey.Bytes, len(c.Data), logkey.Problems, len(u.Problems))
	select {
	case <-w.updates: // was not received yet
	default:
	}
	w.updates <- u // there is one sender, so the channel has room
}
