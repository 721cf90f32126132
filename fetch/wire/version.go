package wire

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/dial"
)

// Versions of the fetch request: those since Kafka 0.11, up to the last one that names topics
// instead of using their ids.
const (
	minFetchVersion = 4
	maxFetchVersion = 12
	// comparingFetchVersion is the first one with which the leader compares epochs (KIP-595).
	comparingFetchVersion = 12
)

// prepare makes the connection ready for requests that are not sarama's.
func (c *Conn) prepare() error {
	if c.versions == nil {
		resp, err := c.apiVersions()
		if err != nil {
			return err
		}
		c.versions = make(map[kmsg.Key]sarama.ApiVersionsResponseKey, len(resp.ApiKeys))
		for _, k := range resp.ApiKeys {
			c.versions[kmsg.Key(k.ApiKey)] = k
		}
	}
	return c.reauthenticate()
}

// fetchVersion returns the version of fetch requests, after prepare.
func (c *Conn) fetchVersion() (int16, error) {
	k, ok := c.versions[kmsg.Fetch]
	if !ok {
		return 0, dial.ResponseError{Err: errors.New("broker does not support Fetch requests")}
	}
	version := min(maxFetchVersion, k.MaxVersion, maxFetchVersionOf(c.conf.Version))
	if version < max(minFetchVersion, k.MinVersion) {
		return 0, dial.ResponseError{Err: fmt.Errorf("broker supports Fetch versions %d to %d, and kafka_version allows at most %d: Kafka 0.11 or newer is required",
			k.MinVersion, k.MaxVersion, maxFetchVersionOf(c.conf.Version))}
	}
	return version, nil
}

// ComparesEpochs reports whether the broker compares the leader epochs of positions with its own in
// fetch requests. For an older broker, see [Conn.EpochEnds].
func (c *Conn) ComparesEpochs() (bool, error) {
	if err := c.prepare(); err != nil {
		return false, err
	}
	version, err := c.fetchVersion()
	return version >= comparingFetchVersion, err
}

// apiVersions asks the broker for the versions of requests.
func (c *Conn) apiVersions() (*sarama.ApiVersionsResponse, error) {
	return c.broker.ApiVersions(&sarama.ApiVersionsRequest{
		Version: 3, ClientSoftwareName: "kcagent", ClientSoftwareVersion: "1",
	})
}

// reauthenticate keeps the session of a SASL login from ending (KIP-368). A broker closes the
// connection when a request arrives after that. sarama authenticates again before a request of its
// own, once most of the session has passed. Fetches are not sarama's, so a small request of sarama
// is sent before them then.
func (c *Conn) reauthenticate() error {
	at := reauthenticateAt(c.broker)
	if at.IsZero() || time.Now().Before(at) {
		return nil
	}
	_, err := c.apiVersions()
	if err != nil && !errors.Is(err, sarama.ErrSASLAuthenticationFailed) {
		// The connection cannot be used: brokers reject a second login within a second.
		return fmt.Errorf("%w: reauthenticate: %w", net.ErrClosed, err)
	}
	return err
}

// sessionField is where sarama keeps the time from which on it authenticates again, in milliseconds
// since 1970: after 85 to 95 % of the lifetime of the session.
var sessionField, hasSessionField = reflect.TypeFor[sarama.Broker]().FieldByName("clientSessionReauthenticationTimeMs")

// reauthenticateAt returns when to authenticate again; zero if the session has no end. sarama does
// not export it. If sarama renames the field, the broker ends the session, and the request is sent
// again on a new connection. Nothing else may use b during the call.
func reauthenticateAt(b *sarama.Broker) time.Time {
	if !hasSessionField || sessionField.Type.Kind() != reflect.Int64 {
		return time.Time{}
	}
	if ms := reflect.ValueOf(b).Elem().FieldByIndex(sessionField.Index).Int(); ms > 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

// maxFetchVersionOf returns the highest fetch version that kafka_version allows.
func maxFetchVersionOf(version sarama.KafkaVersion) int16 {
	for _, v := range []struct {
		since sarama.KafkaVersion
		fetch int16
	}{
		{sarama.V2_7_0_0, 12},
		{sarama.V2_3_0_0, 11},
		{sarama.V2_1_0_0, 10},
		{sarama.V2_0_0_0, 8},
		{sarama.V1_1_0_0, 7},
		{sarama.V1_0_0_0, 6},
		{sarama.V0_11_0_0, 5},
	} {
		if version.IsAtLeast(v.since) {
			return v.fetch
		}
	}
	return 0
}
