package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"

	"kcagent/agent/kafka/login"
	"kcagent/config"
	"kcagent/logkey"
	"kcagent/retry"
)

// SetUpSarama sets what sarama keeps for the whole process. It must run before any other
// call of sarama: its metrics cost 85 KB for each group and the agent does not read them,
// and by default it does not limit the size of a decompressed batch.
//
// sarama's log lines do not name a consumer. They go to log at debug level, which may be
// enabled later; a nil log does not change where they go. A later call replaces the log only,
// because goroutines of an ended group read sarama's variables for some time.
//
// A panic in a goroutine of sarama ends the process: if it were caught, the
// consumer would stop without an error. After the restart, all consumers resume at
// their committed offsets.
func SetUpSarama(log *slog.Logger) {
	if log != nil {
		saramaLog.Store(log)
	}
	setUpSarama()
}

var setUpSarama = sync.OnceFunc(func() {
	metrics.UseNilMetrics = true
	sarama.MaxDecompressedBatchSize = maxBatchBytes
	sarama.Logger = saramaLogger{}
})

// saramaLog is where sarama's lines go; nil drops them.
var saramaLog atomic.Pointer[slog.Logger]

// A saramaLogger writes the lines of sarama to saramaLog.
type saramaLogger struct{}

// Print implements [sarama.StdLogger].
func (l saramaLogger) Print(v ...any) { l.line(func() string { return fmt.Sprint(v...) }) }

// Printf implements [sarama.StdLogger].
func (l saramaLogger) Printf(format string, v ...any) {
	l.line(func() string { return fmt.Sprintf(format, v...) })
}

// Println implements [sarama.StdLogger].
func (l saramaLogger) Println(v ...any) { l.line(func() string { return fmt.Sprintln(v...) }) }

// line logs a text at debug level. text is not called if that level is disabled.
func (saramaLogger) line(text func() string) {
	if log := saramaLog.Load(); log != nil && log.Enabled(context.Background(), slog.LevelDebug) {
		log.Debug("kafka client reported a message", logkey.Message, strings.TrimSpace(text()))
	}
}

const (
	maxBatchBytes = 128 << 20 // of one decompressed batch

	dialTimeout = 5 * time.Second
	// ReadTimeout is how long sarama waits for a response. A join may take longer (sarama
	// issue 2820); see coordinatorConn and group.JoinWatch.
	ReadTimeout = 30 * time.Second
)

// SaramaConfig returns the settings with which sarama reaches a cluster.
func SaramaConfig(clientID string, cluster config.Cluster, c *login.Credentials) (*sarama.Config, error) {
	s := sarama.NewConfig()
	s.ClientID = clientID
	s.MetricRegistry = noMetrics{}
	s.Version = sarama.MaxVersion // an upper limit: each request is negotiated down
	if v := cluster.KafkaVersion; v != "" {
		version, err := sarama.ParseKafkaVersion(v)
		if err != nil {
			return nil, fmt.Errorf("parse kafka_version: %w", err)
		}
		s.Version = version
	}
	s.Net.DialTimeout, s.Net.ReadTimeout, s.Net.WriteTimeout = dialTimeout, ReadTimeout, 15*time.Second
	s.Metadata.Full = false                   // a client is then built without the network, even if the cluster is down
	s.Metadata.AllowAutoTopicCreation = false // a misspelt name must not create a topic
	s.Metadata.Timeout = 15 * time.Second
	s.Metadata.Retry.Max = 3
	s.Metadata.Retry.BackoffFunc = func(n, _ int) time.Duration { return retry.Jitter(100 * time.Millisecond << min(n, 5)) }
	c.Configure(s, cluster)
	return s, nil
}
