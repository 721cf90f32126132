package group

import (
	"cmp"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/kafka"
	"kcagent/agent/kafka/login"
	"kcagent/config"
	"kcagent/fetch"
)

const (
	// RebalanceTimeout is how long the coordinator waits for a member to rejoin, and so
	// how long the last flush of a generation may take.
	RebalanceTimeout = 25 * time.Second

	// heartbeatRetries is how often sarama retries a heartbeat that fails: for at least ten
	// seconds, with two tries and one pause each time. So the restart of a broker does not
	// end a generation, nor does its failure, which a cluster detects after nine seconds by
	// default.
	heartbeatRetries = 2 * 10 * 4

	// requestRetries is how often sarama retries a request before a generation.
	requestRetries = 3

	Assignor         = sarama.StickyBalanceStrategyName // of each member of kcagent
	ConsumerProtocol = "consumer"                       // protocol type of groups of consumers
)

// SessionTimeout returns the session timeout of the consumer's member.
func SessionTimeout(spec *config.Consumer) time.Duration {
	return cmp.Or(spec.Cluster.SessionTimeout, config.DefaultSessionTimeout)
}

// heartbeatInterval returns the time between two heartbeats. The response reports to a
// member that another one has joined, so the interval accounts for most of the duration of a
// rebalance. A thousand consumers send 500 heartbeats a second.
func heartbeatInterval(session time.Duration) time.Duration { return min(2*time.Second, session/6) }

// Config returns the settings with which sarama takes part in the consumer's group, and
// opens connections to its coordinator.
func Config(spec *config.Consumer, creds *login.Credentials, d *kafka.Dialer, cluster *fetch.Fetcher) (*sarama.Config, error) {
	s, err := kafka.SaramaConfig("kcagent/"+spec.Name, spec.Cluster, creds)
	if err != nil {
		return nil, err
	}
	s.Net.Proxy.Enable, s.Net.Proxy.Dialer = true, d.ToCoordinator(creds, cluster)
	s.Net.TLS.Enable, s.Net.TLS.Config = false, nil // the dialer does the handshake, because it checks the first response
	s.Metadata.RefreshFrequency = 0                 // no goroutine of a leader checks the number of partitions; see Client.Assigned
	s.ChannelBufferSize = 0                         // sarama's channels are not used
	s.Metadata.Retry.Max = heartbeatRetries
	c := &s.Consumer
	c.Offsets.AutoCommit.Enable = false
	c.Offsets.Initial = sarama.OffsetOldest
	c.Group.ResetInvalidOffsets = false // on_offset_out_of_range decides
	c.Group.InstanceId = spec.InstanceID
	c.Group.Session.Timeout = SessionTimeout(spec)
	c.Group.Heartbeat.Interval = heartbeatInterval(c.Group.Session.Timeout)
	c.Group.Rebalance.Timeout = RebalanceTimeout
	// By default, sarama waits 2 s after each join that fails because the coordinator loads
	// the group, or because another member starts a rebalance meanwhile.
	c.Group.Rebalance.Retry.Backoff, c.Group.Rebalance.Retry.Max = 500*time.Millisecond, 16
	c.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategySticky()} // see Client.ConsumerGroup
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("check kafka settings: %w", err)
	}
	return s, nil
}

// requests has the settings of requests, by the version of the protocol.
var requests sync.Map // of *sarama.Config by sarama.KafkaVersion

// requestConfig returns the settings for requests that sarama sends before a generation. Only
// the version differs between consumers, so one copy for each version is enough.
func requestConfig(conf *sarama.Config) *sarama.Config {
	if shared, ok := requests.Load(conf.Version); ok {
		return shared.(*sarama.Config)
	}
	s := sarama.NewConfig()
	s.Version, s.MetricRegistry, s.ChannelBufferSize = conf.Version, conf.MetricRegistry, conf.ChannelBufferSize
	s.Metadata.Retry = conf.Metadata.Retry
	s.Metadata.Retry.Max = requestRetries
	s.Consumer.Offsets = conf.Consumer.Offsets
	shared, _ := requests.LoadOrStore(conf.Version, s)
	return shared.(*sarama.Config)
}
