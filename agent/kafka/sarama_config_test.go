package kafka

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/IBM/sarama"
)

// TestSaramaLogsAtDebugLevel: sarama's lines are logged while the level is DEBUG, which may
// change after the start. A later call replaces the log while goroutines of sarama, which
// outlive their group, still log; the race detector reports it otherwise.
func TestSaramaLogsAtDebugLevel(t *testing.T) {
	defer saramaLog.Store(saramaLog.Load())
	SetUpSarama(slog.New(slog.DiscardHandler))
	read, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		for {
			select {
			case <-stop:
				return
			default:
				sarama.Logger.Println("of a group that has ended")
			}
		}
	}()
	SetUpSarama(slog.New(slog.DiscardHandler))
	close(stop)
	<-read
	var out bytes.Buffer
	var level slog.LevelVar
	SetUpSarama(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: &level})))
	sarama.Logger.Println("client/brokers", 1)
	if out.Len() > 0 {
		t.Errorf("at info: %s", &out)
	}
	level.Set(slog.LevelDebug)
	sarama.Logger.Println("client/brokers", 1)
	sarama.Logger.Printf("connected to %s\n", "k:9092")
	sarama.Logger.Print("closed")
	for i, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		want := []string{`message="client/brokers 1"`, `message="connected to k:9092"`, "message=closed"}[i]
		if !strings.HasSuffix(line, `level=DEBUG msg="kafka client reported a message" `+want) {
			t.Errorf("line %d: %s", i, line)
		}
	}
}
