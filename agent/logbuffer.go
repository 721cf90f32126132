package agent

import (
	"bytes"
	"encoding/json"
	"sync"
	"testing"
)

// A logBuffer keeps what is logged, as JSON lines. It may be written and read by several
// goroutines.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns everything that was logged.
func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// A logLine has the attributes that tests look at.
type logLine struct{ Level, Msg, From, To, Reason, Consumer, Cluster, Cause, Lasts string }

// logged returns the lines with a message.
func (b *logBuffer) logged(t testing.TB, msg string) (lines []logLine) {
	t.Helper()
	for line := range bytes.Lines([]byte(b.String())) {
		var l logLine
		_ = json.Unmarshal(line, &l) // a number has another type in some lines
		if l.Msg == msg {
			lines = append(lines, l)
		}
	}
	return lines
}
