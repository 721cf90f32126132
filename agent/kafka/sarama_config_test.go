package kafka

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"

	"kcagent/agent/kafka/login"
	"kcagent/config"
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

// TestConnectionsShareARegistry: sarama's metrics take no memory for each connection.
func TestConnectionsShareARegistry(t *testing.T) {
	SetUpSarama(nil)
	conf, err := SaramaConfig("a", config.Cluster{}, &login.Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	r := conf.MetricRegistry
	if r != metrics.Registry(noMetrics{}) {
		t.Errorf("the registry is a %T", r)
	}
	metrics.GetOrRegisterMeter("m", r).Mark(1)
	metrics.GetOrRegisterCounter("c", r).Inc(1)
	create := func() metrics.Histogram { return metrics.NewHistogram(metrics.NewUniformSample(9)) }
	r.GetOrRegister("h", create).(metrics.Histogram).Update(1)
	if n := testing.AllocsPerRun(100, func() { metrics.GetOrRegisterMeter("m", r) }); n != 0 {
		t.Errorf("a metric takes %v allocations", n)
	}
}
