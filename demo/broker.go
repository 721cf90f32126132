package demo

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/twmb/franz-go/pkg/kfake"

	"kcagent/logkey"
)

// preferredAddr is where the broker listens if the port is free. It is constant, because
// the sample file names it and outlives the broker. The port is below the range that
// systems use for outgoing connections.
const preferredAddr = "127.0.0.1:19092"

// topics are the topics of the broker, with their numbers of partitions.
var topics = map[string]int32{"orders": 4, "payments": 2, "audit": 1}

// The broker keeps all records in memory, so it deletes old ones, as Kafka does: about 6 MiB
// per partition stay. It frees whole segments; the default size of a segment, 100 MiB,
// would be too much.
var (
	topicSettings  = map[string]string{"retention.bytes": "4194304", "segment.bytes": "1048576"}
	brokerSettings = map[string]string{"log.cleaner.backoff.ms": "2000"}
)

// A broker is an embedded Kafka broker on a loopback port.
type broker struct {
	*kfake.Cluster
	addr string
}

// startBroker starts a broker with the topics on addr, or on any free port if addr is in
// use. Close ends it.
func startBroker(addr string, log *slog.Logger) (*broker, error) {
	listen := func(network, _ string) (net.Listener, error) {
		l, err := net.Listen(network, addr)
		if err != nil {
			return net.Listen(network, "127.0.0.1:0")
		}
		return l, nil
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(listen),
		kfake.BrokerConfigs(brokerSettings), kfake.WithLogger(brokerLog{log}))
	if err != nil {
		return nil, fmt.Errorf("start embedded broker: %w", err)
	}
	for name, partitions := range topics {
		if err := c.CreateTopic(name, partitions, topicSettings); err != nil {
			c.Close()
			return nil, fmt.Errorf("create topic %s: %w", name, err)
		}
	}
	return &broker{c, c.ListenAddrs()[0]}, nil
}

// brokerLog logs the errors of the broker, and its warnings at debug level. It discards the
// rest, which has a line for each request.
type brokerLog struct{ log *slog.Logger }

func (l brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case kfake.LogLevelError:
		to = slog.LevelError
	case kfake.LogLevelWarn:
	default:
		return
	}
	if ctx := context.Background(); l.log.Enabled(ctx, to) {
		l.log.Log(ctx, to, "embedded broker", logkey.Message, fmt.Sprintf(format, args...))
	}
}
