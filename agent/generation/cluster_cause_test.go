package generation

import (
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/IBM/sarama"

	"kcagent/agent/kafka/login"
	"kcagent/agent/outage"
	"kcagent/config"
	"kcagent/fetch"
)

// TestClusterCauseConcernsAllConsumers: these errors concern all consumers of a cluster,
// under these keys.
func TestClusterCauseConcernsAllConsumers(t *testing.T) {
	reset := &net.OpError{Op: "read", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 9092}, Err: &net.DNSError{Err: "x"}}
	reset.Err = fmt.Errorf("read: %w", syscall.ECONNRESET)
	dial := *reset
	dial.Op = "dial"
	user := fmt.Errorf("login: %w", sarama.ErrSASLAuthenticationFailed)
	for name, c := range map[string]struct {
		err        error
		cause, key string // empty: it is about the consumer
	}{
		"reset":                    {fmt.Errorf("fetch: %w", reset), "fetch: read tcp 10.0.0.1:9092: read: connection reset by peer", "10.0.0.1:9092 connection reset by peer"},
		"by another way":           {fmt.Errorf("join group g: %w", &dial), "dial tcp 10.0.0.1:9092: read: connection reset by peer", "10.0.0.1:9092 connection reset by peer"},
		"closed":                   {fmt.Errorf("join group g: %w", io.EOF), "EOF", "connection closed"},
		"a broker is full":         {&fetch.ConnectionLimitError{Broker: "b:9092", Open: 20, Err: io.EOF}, (&fetch.ConnectionLimitError{Broker: "b:9092", Open: 20}).Error(), "b:9092 accepts no more connections"},
		"or restarts":              {&fetch.ConnectionLimitError{Broker: "b:9092", Err: io.EOF}, (&fetch.ConnectionLimitError{Broker: "b:9092"}).Error(), "connection closed"},
		"no name server":           {fmt.Errorf("look up leader: %w", &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "timeout", Name: "k"}}), "look up leader: dial tcp: lookup k: timeout", "dial tcp: lookup k: timeout"},
		"no broker":                {fmt.Errorf("x: %w", fetch.NotKafkaError("it speaks TLS")), "x: it speaks TLS", "it speaks TLS"},
		"login":                    {fmt.Errorf("join group g: %w", user), user.Error(), sarama.ErrSASLAuthenticationFailed.Error()},
		"login not tried":          {&login.BackoffError{Rejection: user}, (&login.BackoffError{Rejection: user}).Error(), sarama.ErrSASLAuthenticationFailed.Error()},
		"a missing topic":          {fmt.Errorf("subscribe: %w", sarama.ErrUnknownTopicOrPartition), "", ""},
		"the disk is full":         {SinkError{Err: syscall.ENOSPC}, "", ""},
		"the group is not allowed": {sarama.ErrGroupAuthorizationFailed, "", ""},
	} {
		cause, key, ok := outage.ClusterCause(&config.Consumer{Group: "g"}, c.err)
		if cause != c.cause || key != c.key || ok != (c.cause != "") {
			t.Errorf("%s: %q, key %q, %v", name, cause, key, ok)
		}
	}
}
