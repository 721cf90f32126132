package outage

import (
	"errors"
	"io"
	"math"
	"net"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/IBM/sarama"

	"kcagent/agent/kafka/login"
	"kcagent/condition"
	"kcagent/config"
	"kcagent/fetch"
)

// A CauseLog decides which causes are logged of a condition that lasts and whose cause may
// change with each retry: each cause once. The zero value is a condition that has not begun.
// It is not safe for concurrent use.
type CauseLog struct {
	since  time.Time
	last   time.Time           // when a cause was last due
	logged map[string]struct{} // keys of causes
}

// causesLogged is how many causes of one condition are logged. If there are more, it is one
// cause with a text that varies.
const causesLogged = 32

// First reports whether the cause with this key has not been logged yet. It is logged then.
// A text that varies is logged a limited number of times.
func (l *CauseLog) First(key string, now time.Time) bool {
	return l.News(key, math.MaxInt64, now)
}

// News is like First, but reports the same cause again once the time every has passed.
func (l *CauseLog) News(key string, every time.Duration, now time.Time) bool {
	if l.logged == nil {
		l.since, l.logged = now, make(map[string]struct{})
	}
	if _, known := l.logged[key]; (known || len(l.logged) >= causesLogged) && now.Sub(l.last) < every {
		return false
	}
	l.logged[key], l.last = struct{}{}, now
	return true
}

// Lasts returns how long the condition has lasted, for logs.
func (l *CauseLog) Lasts(now time.Time) string { return condition.Duration(now.Sub(l.since)) }

// varying matches what differs between the responses of token servers and AWS to the same
// request, identifiers of requests and times, and the URLs of objects: a store that fails does so
// for each partition, and again for its next objects.
var varying = regexp.MustCompile(`(?i)\b(s3|gs|az|file)://\S+|\b(request|trace|correlation)[ _-]?id[:=]? *[\w-]+|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?`)

// CauseKey identifies a cause across retries.
func CauseKey(text string) string { return varying.ReplaceAllString(text, "") }

// FaultKey is [CauseKey] for a fault of a consumer. Partitions without a leader are one cause,
// however many there are: a broker that fails is the leader of many.
func FaultKey(err error) string {
	if code, ok := errors.AsType[sarama.KError](err); ok {
		switch code {
		case sarama.ErrLeaderNotAvailable, sarama.ErrNotLeaderForPartition, sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch,
			sarama.ErrReplicaNotAvailable, sarama.ErrKafkaStorageError, sarama.ErrBrokerNotAvailable:
			return code.Error()
		}
	}
	return CauseKey(err.Error())
}

// SharedKey is the key of a cause that is the same for several consumers, although its text
// names the consumer, its group or its file.
func SharedKey(spec *config.Consumer, err error) string {
	if _, key, ok := ClusterCause(spec, err); ok {
		return key
	}
	if code, ok := root(err).(syscall.Errno); ok {
		return code.Error()
	}
	names := []string{spec.Sink.String(), "", spec.Group, "", spec.Name, ""}
	if spec.Sink.File != nil {
		names = append([]string{spec.Sink.File.Path, ""}, names...)
	}
	return strings.NewReplacer(names...).Replace(FaultKey(err))
}

// ClusterCause returns the part of err that concerns all consumers of the cluster, and the
// key of that cause. ok is false if err concerns the consumer alone.
func ClusterCause(spec *config.Consumer, err error) (cause, key string, ok bool) {
	if !ofCluster(err) {
		return "", "", false
	}
	// The outer errors may name the group of one consumer.
	for inner := errors.Unwrap(err); inner != nil && strings.Contains(err.Error(), "group "+spec.Group); inner = errors.Unwrap(err) {
		err = inner
	}
	return err.Error(), clusterKey(err), true
}

// ofCluster reports whether err concerns the connection to a broker, or the login.
func ofCluster(err error) bool {
	return login.Rejected(err) || errors.As(err, new(fetch.NotKafkaError)) || errors.As(err, new(*fetch.HandshakeError)) ||
		errors.As(err, new(*net.OpError)) || connectionClosed(err)
}

// connectionClosed reports whether err only says that a connection is closed.
func connectionClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, sarama.ErrNotConnected) || errors.Is(err, sarama.ErrOutOfBrokers)
}

// clusterKey identifies a cause, whichever request failed for it.
func clusterKey(err error) string {
	var of *net.OpError
	var notKafka fetch.NotKafkaError
	var full *fetch.ConnectionLimitError
	switch {
	case login.Rejected(err):
		for inner := errors.Unwrap(err); inner != nil && login.Rejected(inner); inner = errors.Unwrap(inner) {
			err = inner
		}
	case errors.As(err, &notKafka):
		err = notKafka
	case errors.As(err, &full) && full.Open > 0: // else the broker may be restarting, which closes connections too
		return full.Broker + " accepts no more connections"
	case errors.As(err, &of) && of.Addr != nil && of.Err != nil:
		return of.Addr.String() + " " + root(of.Err).Error()
	case of != nil: // the lookup of a name failed, so there is no address
		return of.Error()
	case connectionClosed(err):
		return "connection closed"
	}
	return CauseKey(err.Error())
}

// root returns the innermost error.
func root(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}
