// Package httpserver serves the HTTP API so that no client can use up the resources of the
// agent. Every phase of a request has a deadline. The number of connections is limited, and
// at the limit an idle connection is closed for a new one. The package does not depend on
// the API itself.
package httpserver

import (
	"log/slog"
	"net/http"
	"time"
)

const (
	headerTimeout  = 5 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = time.Minute
	maxHeaderBytes = 64 << 10
)

// New returns a server of h with a deadline for each phase of a request. It logs errors of
// connections as warnings.
func New(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
	}
}
