// Package config defines the configuration file: its structure, its rules, its normal form,
// its JSON Schema, and a watcher that parses it again after each edit.
//
// It guarantees that a [Config] is valid as a whole, that two consumers mean the same if
// they are deeply equal, and that a [Secret] is never printed. Start reading with the
// structs in this file and with [Parse]. Package strictyaml decodes the YAML, and package
// filewatch notices edits.
//
// A new setting is a field here with its tags (yaml, doc, example, and default if the
// parser sets none), its default in normalise.go, and its rule in validate.go.
package config

import (
	"fmt"
	"io"
	"strings"
	"time"

	"kcagent/sink"
)

// A Config is one valid configuration, normalised: defaults are set, environment variables
// expanded, clusters resolved, topics sorted and unique.
type Config struct {
	Clusters  map[string]Cluster `yaml:"clusters" doc:"Kafka clusters by name."`
	Limits    Limits             `yaml:"limits" doc:"Limits for the number of consumers, for what one edit may remove, and for the size of one record batch."`
	LogLevel  LogLevel           `yaml:"log_level" doc:"Minimum level to log, instead of the level of the flag --log-level. An edit changes it without a restart; removing it restores the level of the flag." default:"the level of --log-level" example:"debug"`
	Consumers []Consumer         `yaml:"consumers" doc:"The consumers. Each has a name of its own; an empty list means none."`

	// Warnings are the places of the file that are valid but probably mistakes, in the
	// order of the file.
	Warnings Problems `yaml:"-"`
}

// A LogLevel is the minimum level of the lines that the agent logs; "" means that of the
// flag.
type LogLevel string

// Values lists the legal levels.
func (LogLevel) Values() []string { return []string{"debug", "info", "warn", "error"} }

// Limits bound the number of consumers, what one edit may remove, and the size of one record batch.
type Limits struct {
	MaxConsumers      int `yaml:"max_consumers" doc:"Maximum number of consumers; a file with more is rejected." example:"500"`
	MaxRemovedPercent int `yaml:"max_removed_percent" doc:"Maximum share of the running consumers that one edit may terminate, in percent; the agent rejects an edit that would terminate more." example:"20"`

	MaxBatch sink.Size `yaml:"max_batch" doc:"Largest record batch that is read, as received and as decompressed, from 1MiB to 2047MiB. With a memory limit (cgroup or GOMEMLIMIT) a batch may use half of the limit at most. A larger batch is an error of its consumer that names the offset and the next step." example:"256MiB"`
}

// A Cluster configures how to reach and use a Kafka cluster.
type Cluster struct {
	Brokers      []string `yaml:"brokers" doc:"Bootstrap brokers, host:port. A name may resolve to several addresses: addresses that did not respond lately are tried last." default:"required" example:"[kafka-1:9093, kafka-2:9093]"`
	TLS          *TLS     `yaml:"tls" doc:"Encrypts the connections; {} trusts the system's certificate authorities." default:"none" example:"{ca_file: /etc/kcagent/ca.pem}"`
	SASL         *SASL    `yaml:"sasl" doc:"Authenticates the connections." default:"none" example:"{mechanism: SCRAM-SHA-512, username: kcagent, password_file: /run/secrets/kafka}"`
	KafkaVersion string   `yaml:"kafka_version" doc:"Highest protocol version to use; negotiated with the brokers if it is left out." default:"negotiated" example:"'3.6.0'"`
	Rack         string   `yaml:"rack" doc:"Where the agent runs, with the name that the brokers use in broker.rack. The agent then fetches from the nearest replica (KIP-392); without it, from the leader." default:"none" example:"${ZONE:-eu-1a}"`
	Fetch        Fetch    `yaml:"fetch" doc:"Fetching, shared by all consumers of the cluster."`

	SessionTimeout time.Duration `yaml:"session_timeout" doc:"How long the group keeps a member that sends no heartbeats, from 6s to 1h. The brokers limit it (group.min.session.timeout.ms, group.max.session.timeout.ms)." example:"30s"`
}

// TLS configures how connections are encrypted.
type TLS struct {
	CAFile             string `yaml:"ca_file" doc:"PEM file of the certificate authorities to trust." default:"the system's authorities" example:"/etc/kcagent/ca.pem"`
	CertFile           string `yaml:"cert_file" doc:"PEM file of the client certificate; requires key_file." default:"none" example:"/etc/kcagent/tls.crt"`
	KeyFile            string `yaml:"key_file" doc:"PEM file of the client key; requires cert_file." default:"none" example:"/etc/kcagent/tls.key"`
	ServerName         string `yaml:"server_name" doc:"Name to expect in the broker's certificate." default:"the broker's host" example:"kafka.example.com"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify" doc:"Accepts any certificate. Only for tests." default:"false" example:"true"`
}

// Fetch bounds fetching from a cluster.
type Fetch struct {
	Lanes    int           `yaml:"lanes" doc:"Fetch connections per broker, from 1 to 64, shared by all consumers of the cluster. With 1, a second one is opened while a partition would have to wait for the first." example:"4"`
	MaxBytes sink.Size     `yaml:"max_bytes" doc:"Memory per lane and broker for fetched records, decompressed, from 1KiB to 1GiB, shared by all consumers of the cluster. A memory limit may allow less." example:"8MiB"`
	MaxWait  time.Duration `yaml:"max_wait" doc:"How long a broker may delay a fetch response that has no records, from 1ms to 10s." example:"250ms"`
}

// A Consumer is one entry of the file. After Parse it is a plain value without references
// to others: two consumers mean the same if they are deeply equal.
type Consumer struct {
	Name              string        `yaml:"name" doc:"Unique name: a-z or 0-9, then a-z, 0-9, dot, underscore or dash; at most 100 characters." default:"required" example:"orders"`
	ClusterName       string        `yaml:"cluster" doc:"A name from clusters." default:"this or brokers is required" example:"main"`
	Brokers           []string      `yaml:"brokers" doc:"Instead of cluster: brokers, host:port, of a cluster without TLS and SASL." default:"none" example:"[localhost:9092]"`
	Topics            []string      `yaml:"topics" doc:"Topics to read. A missing topic is reported as an error; the others are still read." default:"this or topics_regex is required" example:"[orders, refunds]"`
	TopicsRegex       string        `yaml:"topics_regex" doc:"Instead of topics: a pattern in Go's syntax, matched anywhere in the name of a topic. Topics that are created or deleted are noticed within a minute." default:"none" example:"'^orders[.]'"`
	Group             string        `yaml:"group" doc:"Consumer group; {name} is replaced. Each consumer should have its own: members of one group share its partitions and its rebalances." default:"kcagent-<name>" example:"'billing-{name}'"`
	State             State         `yaml:"state" doc:"running: the consumer fetches. paused: it stays a member and keeps its assignment, but does not fetch. stopped: it leaves its group and holds no goroutine, connection or file." example:"paused"`
	Start             Start         `yaml:"start" doc:"Start policy for partitions without a committed offset: earliest, latest or an RFC 3339 time. Partitions and topics that are added later are read from their first record." example:"'2026-01-31T08:00:00Z'"`
	OnOutOfRange      OutOfRange    `yaml:"on_offset_out_of_range" doc:"What to do if the next offset is no longer in the log, or the topic was recreated: continue at earliest or latest, or fail: the partition stops and the consumer goes to ERROR." example:"fail"`
	InstanceID        string        `yaml:"instance_id" doc:"Makes the consumer a static member (KIP-345): a restart of the agent within session_timeout causes no rebalance. Each agent needs its own id; if two agents use the same one, the later one takes it over, and the former reports it and waits. {name} is replaced." default:"none" example:"${HOSTNAME:-agent-1}"`
	Isolation         Isolation     `yaml:"isolation" doc:"read_committed hides records of open and aborted transactions; read_uncommitted does not." example:"read_uncommitted"`
	MaxPartitionBytes sink.Size     `yaml:"max_partition_bytes" doc:"Maximum size of one partition's records in a fetch response, from 1KiB to 1GiB." example:"256KiB"`
	StallTimeout      time.Duration `yaml:"stall_timeout" doc:"The consumer goes to ERROR and is restarted if a partition with records to read makes no progress for this time, and no pause, sink or error is the reason; from 1s to 24h. A partition that stalls again at the same place is only logged." example:"5m"`
	Flush             Flush         `yaml:"flush" doc:"When records are flushed and their offsets committed."`
	Decode            Decode        `yaml:"decode" doc:"Which parts of a record are decoded. A decoded part is embedded in the JSON envelope; requires format: json."`
	OnError           OnError       `yaml:"on_error" doc:"What to do with a record that cannot be decoded. stop: the partition stops before it, and the consumer goes to ERROR. skip: it is counted and logged, but not written. dead_letter: it is written to a second file, as Kafka has it, with the reason in its last header, kcagent.error; the keys below file are those of sink.file, and format is json." example:"{dead_letter: {file: {path: '/data/dead/{name}-{topic}-{partition}.jsonl'}}}"`
	Sink              sink.Spec     `yaml:"sink" doc:"Where the records are written. Exactly one kind of sink is required."`

	// Cluster is what ClusterName or Brokers resolved to.
	Cluster Cluster `yaml:"-"`
}

// Flush configures when records are flushed and their offsets committed: at the latest
// after Interval, and once Bytes are unflushed.
type Flush struct {
	Interval time.Duration `yaml:"interval" doc:"Maximum time until records are flushed and their offsets committed, from 10ms to 1h." example:"500ms"`
	Bytes    sink.Size     `yaml:"bytes" doc:"Flush earlier once this much is unflushed, from 1KiB to 1TiB." example:"8MiB"`
}

// Sinks returns the sink of the records, and the dead-letter file if there is one.
func (c *Consumer) Sinks() []sink.Spec {
	if letters, ok := c.OnError.Sink(); ok {
		return []sink.Spec{c.Sink, letters}
	}
	return []sink.Spec{c.Sink}
}

// State is the desired state of a consumer.
type State string

// The desired states.
const (
	Running State = "running"
	Paused  State = "paused"
	Stopped State = "stopped"
)

// Values lists the legal states, the default first.
func (State) Values() []string { return []string{string(Running), string(Paused), string(Stopped)} }

// OutOfRange is what to do if the next offset to read is not in the log.
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

// Isolation is which records of transactions are read.
type Isolation string

// The isolation levels.
const (
	ReadCommitted   Isolation = "read_committed"
	ReadUncommitted Isolation = "read_uncommitted"
)

// Values lists the legal levels, the default first.
func (Isolation) Values() []string { return []string{string(ReadCommitted), string(ReadUncommitted)} }

// Start is the start policy of a partition without a committed offset. The zero value
// starts at the earliest record, Latest after the last one, At at the first record that is
// not older.
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
		if hint := startHint(string(text)); err != nil && hint != "" {
			return fmt.Errorf("invalid start %q: write %s", text, hint)
		}
		if err != nil {
			return fmt.Errorf("invalid start %q: use earliest, latest or an RFC 3339 time such as 2026-01-31T08:00:00Z", text)
		}
		*s = Start{At: at.UTC()}
	}
	return nil
}

// startHint returns the spelling of a start that is written as in other programs; "" if it is
// unknown.
func startHint(text string) string {
	switch strings.ToLower(text) {
	case "earliest", "beginning", "smallest", "oldest":
		return "earliest"
	case "latest", "end", "largest", "newest", "now":
		return "latest"
	}
	for _, layout := range []string{time.DateOnly, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02 15:04:05Z07:00"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.Format(time.RFC3339)
		}
	}
	return ""
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

// A Secret is a text that prints as <secret> wherever it is printed, marshalled or logged;
// only Reveal returns it. It holds a pointer, so that fmt, which walks over unexported
// fields, cannot reach the text.
type Secret struct{ text *string }

const hidden = "<secret>"

// NewSecret hides text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal returns the text itself, "" if none is set.
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

// MarshalText writes <secret>, or nothing if no text is set.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String is <secret>, or "" if no text is set.
func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return hidden
}

// Format prints <secret> for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }
