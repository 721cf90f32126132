// Package httpserver serves the HTTP API so that no client can use up the resources of the
// agent. Every phase of a request has a deadline. The number of connections is limited, and
// at the limit an idle connection is closed for a new one. The package does not depend on
// the API itself.
package httpserver

import (
	stdlog "log"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"kcagent/logkey"
)

const (
	headerTimeout  = 5 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = time.Minute
	maxHeaderBytes = 64 << 10
)

// New returns a server of h with a deadline for each phase of a request. It logs errors of
// connections as warnings, and panics of h as errors.
func New(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ErrorLog: stdlog.New(errorLog{log}, "", 0),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
	}
}

// An errorLog logs what net/http reports.
type errorLog struct{ log *slog.Logger }

// Write implements [io.Writer].
func (l errorLog) Write(p []byte) (int, error) {
	text := strings.TrimSpace(string(p))
	if strings.HasPrefix(text, "http: panic serving ") {
		l.log.Error("handler of an http request panicked", logkey.Message, text)
	} else {
		l.log.Warn("http server reported an error", logkey.Message, text)
	}
	return len(p), nil
}
