package offsets

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"kcagent/sink"
)

// Metadata is the text that the agent commits with each offset:
//
//	kcagent/1 ledger=… lineage=… cluster=… topic=… partitions=… awaits=… pinned=… nonce=… plan=… plan.KEY=…
//
// If a key is absent, its value is unknown. A reader ignores keys that it does not know.
// An offset with any other text was not committed by an agent of this format: an operator,
// another program, or another version of the agent committed it.
type Metadata struct {
	Ledger     string        // id of the ledger that holds the records below the offset; "" if the sink keeps none
	Lineage    string        // see [Decide]
	Topic      sink.Identity // the topic that the offset is about, and its cluster
	Partitions int32         // how many partitions the topic had when the group first read it; -1 if unknown
	Awaits     string        // topics of the consumer that did not exist, see [JoinAwaited]
	EarlyStart bool          // key pinned: the offset is an early start offset, see decideEarlyStart
	Nonce      string        // of the commit, see [sink.Commit]; "" if the sink does not publish by plan
	Plan       *sink.Plan    // that is open, with Nonce; nil if there is none, or it cannot be read
	BadPlan    string        // why the plan that is open cannot be read; "" if it can or there is none
}

const (
	metadataVersion = "kcagent/1"
	// maxAwaits bounds the names of awaited topics. Brokers reject metadata that is
	// longer than offset.metadata.max.bytes, which is 4096 by default.
	maxAwaits = 2048
	// maxMetadata is that default. A plan may leave less than maxAwaits.
	maxMetadata = 4096
)

// String returns the text to commit.
func (m Metadata) String() string {
	var before, after strings.Builder
	before.WriteString(metadataVersion)
	addKey(&before, "ledger", m.Ledger)
	addKey(&before, "lineage", m.Lineage)
	addKey(&before, "cluster", m.Topic.Cluster)
	addKey(&before, "topic", m.Topic.Topic)
	if m.Partitions >= 0 {
		addKey(&before, "partitions", strconv.Itoa(int(m.Partitions)))
	}
	if m.EarlyStart {
		addKey(&after, "pinned", "1")
	}
	addKey(&after, "nonce", m.Nonce)
	after.WriteString(planText(m.Plan))
	const key = " awaits="
	room := maxMetadata - before.Len() - after.Len() - len(key)
	if names := firstNames(m.Awaits, room); names != "" { // not escaped: commas separate the names
		before.WriteString(key + names)
	}
	return before.String() + after.String()
}

// addKey adds a key with its value, unless that is empty.
func addKey(b *strings.Builder, key, value string) {
	if value != "" {
		b.WriteString(" " + key + "=" + url.PathEscape(value))
	}
}

// firstNames returns the first names of a value of awaits that have n bytes or less together.
func firstNames(joined string, n int) string {
	if len(joined) <= n {
		return joined
	}
	return joined[:max(0, strings.LastIndexByte(joined[:max(0, n+1)], ','))]
}

// ParseMetadata parses the text of String. ok is false if the text has another format.
func ParseMetadata(text string) (m Metadata, ok bool) {
	m.Partitions = -1
	fields := strings.Fields(text)
	if len(fields) == 0 || fields[0] != metadataVersion {
		return m, false
	}
	var version string
	var planKeys map[string]string // nil without a plan
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		value, err := url.PathUnescape(value)
		if err != nil {
			continue
		}
		switch key {
		case "ledger":
			m.Ledger = value
		case "lineage":
			m.Lineage = value
		case "cluster":
			m.Topic.Cluster = value
		case "topic":
			m.Topic.Topic = value
		case "partitions":
			if n, err := strconv.ParseInt(value, 10, 32); err == nil && n >= 0 {
				m.Partitions = int32(n)
			}
		case "awaits":
			m.Awaits = value
		case "pinned":
			m.EarlyStart = value == "1"
		case "nonce":
			m.Nonce = value
		case "plan":
			version = value
		default:
			if setting, ok := strings.CutPrefix(key, "plan."); ok {
				if planKeys == nil {
					planKeys = make(map[string]string)
				}
				planKeys[setting] = value
			}
		}
	}
	if version != "" {
		m.Plan, m.BadPlan = parsePlan(version, m.Nonce, planKeys)
	}
	return m, true
}

// JoinAwaited returns the value of awaits. Names beyond maxAwaits are left out: if such a
// topic is created while the agent is down, the start policy applies to it.
func JoinAwaited(topics []string) string {
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
func (m Metadata) awaited() []string {
	if m.Awaits == "" {
		return nil
	}
	return strings.Split(m.Awaits, ",")
}
