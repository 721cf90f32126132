package testkit

import (
	"bytes"
	"encoding/json"
	"sync"
	"testing"
)

// A LogBuffer keeps what is logged, as JSON lines. It may be written and read by several
// goroutines.
type LogBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns everything that was logged.
func (b *LogBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// A LogLine has the attributes that tests look at.
type LogLine struct{ Level, Msg, From, To, Reason, Consumer, Cluster, Cause, Lasts string }

// Logged returns the lines with a message.
func (b *LogBuffer) Logged(t testing.TB, msg string) (lines []LogLine) {
	t.Helper()
	for line := range bytes.Lines([]byte(b.String())) {
		var l LogLine
		_ = json.Unmarshal(line, &l) // a number has another type in some lines
		if l.Msg == msg {
			lines = append(lines, l)
		}
	}
	return lines
}
