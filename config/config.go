// Package config is what a user may write: the file's structure, its strict
// parser with located problems, and the watcher that notices edits.
package config

import (
	"fmt"
	"io"
	"time"

	"kcagent/sink"
)

// A Config is one good configuration, normalised: defaults are filled in,
// environment variables expanded, clusters resolved, topics sorted and unique.
type Config struct {
	Clusters  map[string]Cluster `yaml:"clusters" doc:"Kafka clusters by name."`
	Limits    Limits             `yaml:"limits" doc:"Guards against an edit that goes too far, and the memory for one record batch."`
	Consumers []Consumer         `yaml:"consumers" doc:"The consumers, each with a name of its own. An empty list means none."`
}

// Limits guard against an edit that goes too far, and bound the memory for one record batch.
type Limits struct {
	MaxConsumers      int `yaml:"max_consumers" doc:"More consumers than this are an error."`
	MaxRemovedPercent int `yaml:"max_removed_percent" doc:"An edit that would terminate more than this share of the consumers is rejected."`

	MaxBatch sink.Size `yaml:"max_batch" doc:"The largest record batch that is read, as it is received and as it is decompressed; a memory limit may allow less."`
}

// A Cluster says how to reach and use a Kafka cluster.
type Cluster struct {
	Brokers      []string `yaml:"brokers" doc:"Bootstrap brokers, host:port."`
	TLS          *TLS     `yaml:"tls" doc:"Encrypt connections; {} trusts the system's roots."`
	SASL         *SASL    `yaml:"sasl" doc:"Authenticate connections."`
	KafkaVersion string   `yaml:"kafka_version" doc:"The highest protocol version to use, such as 3.6.0; negotiated where it is left out."`
	Rack         string   `yaml:"rack" doc:"Where the agent runs, as in the brokers' broker.rack: records are fetched from the nearest replica that the leader advises. Empty: from the leader."`
	Fetch        Fetch    `yaml:"fetch" doc:"Fetching, shared by all consumers of the cluster."`

	SessionTimeout time.Duration `yaml:"session_timeout" doc:"How long the group keeps a member that sends no heartbeats. The brokers limit it."`
}

// TLS says how connections are encrypted.
type TLS struct {
	CAFile             string `yaml:"ca_file" doc:"PEM file of the authorities to trust instead of the system's."`
	CertFile           string `yaml:"cert_file" doc:"PEM file of the client certificate."`
	KeyFile            string `yaml:"key_file" doc:"PEM file of the client key."`
	ServerName         string `yaml:"server_name" doc:"Name to expect in the broker's certificate."`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify" doc:"Accept any certificate. Only for tests."`
}

// Fetch bounds fetching from a cluster.
type Fetch struct {
	Lanes    int           `yaml:"lanes" doc:"Connections per broker for fetching, shared by all consumers of the cluster."`
	MaxBytes sink.Size     `yaml:"max_bytes" doc:"Memory per lane and broker for what is fetched, shared by all consumers of the cluster."`
	MaxWait  time.Duration `yaml:"max_wait" doc:"How long a broker may hold a fetch that has nothing to bring."`
}

// A Consumer is one entry of the file, and after Parse a plain value that says
// all there is to know: two consumers are the same if they are deeply equal.
type Consumer struct {
	Name              string        `yaml:"name" doc:"Unique name: [a-z0-9] then [a-z0-9._-], 100 at most."`
	ClusterName       string        `yaml:"cluster" doc:"A name from clusters."`
	Brokers           []string      `yaml:"brokers" doc:"Instead of cluster: brokers of a cluster without TLS and SASL."`
	Topics            []string      `yaml:"topics" doc:"Topics to read."`
	TopicsRegex       string        `yaml:"topics_regex" doc:"Instead of topics: read every topic that matches."`
	Group             string        `yaml:"group" doc:"Consumer group; kcagent-<name> where it is left out."`
	State             State         `yaml:"state" doc:"running, paused (fetching stops, membership stays) or stopped."`
	Start             Start         `yaml:"start" doc:"Where a group without offsets begins: earliest, latest or an RFC 3339 time."`
	OnOutOfRange      OutOfRange    `yaml:"on_offset_out_of_range" doc:"What to do when the next offset is gone."`
	InstanceID        string        `yaml:"instance_id" doc:"Static membership: a name that stays over restarts."`
	Isolation         Isolation     `yaml:"isolation" doc:"Whether records of open and aborted transactions are hidden."`
	MaxPartitionBytes sink.Size     `yaml:"max_partition_bytes" doc:"How much of one partition a fetch may bring."`
	StallTimeout      time.Duration `yaml:"stall_timeout" doc:"A partition that does not move for this time although there is something to read, and no pause, sink or error explains it, has everything opened anew."`
	Flush             Flush         `yaml:"flush" doc:"When records are made safe and their offsets committed."`
	Sink              sink.Spec     `yaml:"sink" doc:"Where the records go; exactly one kind."`

	// Cluster is what ClusterName or Brokers resolved to.
	Cluster Cluster `yaml:"-"`
}

// Flush says when records are made safe and their offsets committed: at the
// latest after Interval, and once Bytes are waiting.
type Flush struct {
	Interval time.Duration `yaml:"interval" doc:"At the latest after this time."`
	Bytes    sink.Size     `yaml:"bytes" doc:"Once this much waits."`
}

// State is what a user wants of a consumer.
type State string

// The wanted states.
const (
	Running State = "running"
	Paused  State = "paused"
	Stopped State = "stopped"
)

// Values lists the legal states, the default first.
func (State) Values() []string { return []string{string(Running), string(Paused), string(Stopped)} }

// OutOfRange is what to do when the next offset to read is not in the log.
type OutOfRange string

// The policies.
const (
	ResetEarliest OutOfRange = "earliest"
	ResetLatest   OutOfRange = "latest"
	Fail          OutOfRange = "fail"
)

// Values lists the legal policies, the default first.
func (OutOfRange) Values() []string {
	return []string{string(ResetEarliest), string(ResetLatest), string(Fail)}
}

// Isolation says which records of transactions are seen.
type Isolation string

// The isolation levels.
const (
	ReadCommitted   Isolation = "read_committed"
	ReadUncommitted Isolation = "read_uncommitted"
)

// Values lists the legal levels, the default first.
func (Isolation) Values() []string { return []string{string(ReadCommitted), string(ReadUncommitted)} }

// Start is where a group without committed offsets begins: the zero value at
// the earliest record, Latest after the last one, At at the first record that
// is not older.
type Start struct {
	Latest bool
	At     time.Time
}

// UnmarshalText reads earliest, latest or an RFC 3339 time.
func (s *Start) UnmarshalText(text []byte) error {
	switch string(text) {
	case "earliest":
		*s = Start{}
	case "latest":
		*s = Start{Latest: true}
	default:
		at, err := time.Parse(time.RFC3339, string(text))
		if err != nil {
			return fmt.Errorf("%q is no start: write earliest, latest or an RFC 3339 time such as 2026-01-31T08:00:00Z", text)
		}
		*s = Start{At: at.UTC()}
	}
	return nil
}

// String writes the start as UnmarshalText reads it.
func (s Start) String() string {
	switch {
	case s.Latest:
		return "latest"
	case !s.At.IsZero():
		return s.At.Format(time.RFC3339Nano)
	}
	return "earliest"
}

// MarshalText is String.
func (s Start) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Secret is a text that shows as <secret> wherever it is printed, marshalled
// or logged; only Reveal gives it away. It holds a pointer so that not even
// fmt's walk over unexported fields can reach the text.
type Secret struct{ text *string }

const hidden = "<secret>"

// NewSecret hides text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal returns the text itself, "" where none is set.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsSet reports whether there is a text.
func (s Secret) IsSet() bool { return s.text != nil }

// UnmarshalText hides text.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// MarshalText writes <secret>, or nothing where none is set.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String is <secret>, or nothing where none is set.
func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return hidden
}

// Format prints <secret> for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }
