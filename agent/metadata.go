package agent

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"kcagent/sink"
)

// commitMetadata is the text that the agent commits with each offset:
//
//	kcagent/1 ledger=… lineage=… cluster=… topic=… partitions=… awaits=… pinned=…
//
// If a key is absent, its value is unknown. A reader ignores keys that it does not know.
// An offset with any other text was not committed by an agent of this format: an operator,
// another program, or another version of the agent committed it.
type commitMetadata struct {
	ledger     string        // id of the ledger that holds the records below the offset; "" if the sink keeps none
	lineage    string        // see decide
	topic      sink.Identity // the topic that the offset is about, and its cluster
	partitions int32         // how many partitions the topic had when the group first read it; -1 if unknown
	awaits     string        // topics of the consumer that did not exist, see joinAwaited
	startOnly  bool          // key pinned: a start offset, committed while the sink could not be opened; see decideStartOnly
}

const (
	metadataVersion = "kcagent/1"
	// maxAwaits bounds the names of awaited topics. Brokers reject metadata that is
	// longer than offset.metadata.max.bytes, which is 4096 by default.
	maxAwaits = 2048
)

// String returns the text to commit.
func (m commitMetadata) String() string {
	var b strings.Builder
	b.WriteString(metadataVersion)
	add := func(key, value string) {
		if value != "" {
			b.WriteString(" " + key + "=" + url.PathEscape(value))
		}
	}
	add("ledger", m.ledger)
	add("lineage", m.lineage)
	add("cluster", m.topic.Cluster)
	add("topic", m.topic.Topic)
	if m.partitions >= 0 {
		add("partitions", strconv.Itoa(int(m.partitions)))
	}
	if m.awaits != "" { // not escaped: commas separate the names
		b.WriteString(" awaits=" + m.awaits)
	}
	if m.startOnly {
		add("pinned", "1")
	}
	return b.String()
}

// parseMetadata parses the text of String. ok is false if the text has another format.
func parseMetadata(text string) (m commitMetadata, ok bool) {
	m.partitions = -1
	fields := strings.Fields(text)
	if len(fields) == 0 || fields[0] != metadataVersion {
		return m, false
	}
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		value, err := url.PathUnescape(value)
		if err != nil {
			continue
		}
		switch key {
		case "ledger":
			m.ledger = value
		case "lineage":
			m.lineage = value
		case "cluster":
			m.topic.Cluster = value
		case "topic":
			m.topic.Topic = value
		case "partitions":
			if n, err := strconv.ParseInt(value, 10, 32); err == nil && n >= 0 {
				m.partitions = int32(n)
			}
		case "awaits":
			m.awaits = value
		case "pinned":
			m.startOnly = value == "1"
		}
	}
	return m, true
}

// joinAwaited returns the value of awaits. Names beyond maxAwaits are left out: if such a
// topic is created while the agent is down, the start policy applies to it.
func joinAwaited(topics []string) string {
	topics = slices.Clone(topics)
	slices.Sort(topics)
	joined := ""
	for _, t := range slices.Compact(topics) {
		if len(joined)+1+len(t) > maxAwaits {
			break
		}
		if joined != "" {
			joined += ","
		}
		joined += t
	}
	return joined
}

// awaited returns the topics in awaits.
func (m commitMetadata) awaited() []string {
	if m.awaits == "" {
		return nil
	}
	return strings.Split(m.awaits, ",")
}
