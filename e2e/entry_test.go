package e2e

import (
	"fmt"
	"strings"
)

// An entry is one consumer of a file.
type entry struct {
	name, cluster, group string
	topics               []string
	state                string // running if empty
	format               string
	path                 string // empty: standard output
	flush                string
	sink                 string // more of the file sink, such as "compression: zstd"
	more                 string // whole lines
}

// The with methods return a copy that differs in one thing.

func (e entry) withState(state string) entry { e.state = state; return e }

func (e entry) withFormat(format string) entry { e.format = format; return e }

func (e entry) withGroup(group string) entry { e.group = group; return e }

func (e entry) withTopics(topics ...string) entry { e.topics = topics; return e }

func (e entry) withFlush(flush string) entry { e.flush = flush; return e }

func (e entry) withPath(path string) entry { e.path = path; return e }

func (e entry) withCluster(cluster string) entry { e.cluster = cluster; return e }

func (e entry) withSink(sink string) entry { e.sink = sink; return e }

// static is an entry that is a static member.
func (e entry) static(id string) entry { return e.with("instance_id: " + id) }

func (e entry) with(line string) entry { e.more += "    " + line + "\n"; return e }

// file is the path of a topic's file.
func (e entry) pathOf(topic string) string { return strings.ReplaceAll(e.path, "{topic}", topic) }

// never is a flush that no test lives to see, unless something else asks for
// it: a pause, a stop or the end.
const flushNever = "{interval: 1h, bytes: 1GiB}"

func (e entry) yaml() string {
	sink := fmt.Sprintf("{file: {path: %q, format: %s, %s}}", e.path, e.format, e.sink)
	if e.path == "" {
		sink = fmt.Sprintf("{stdout: {format: %s}}", e.format)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  - name: %s\n    cluster: %s\n    group: %s\n    flush: %s\n    sink: %s\n",
		e.name, e.cluster, e.group, e.flush, sink)
	if len(e.topics) > 0 {
		fmt.Fprintf(&b, "    topics: [%s]\n", strings.Join(e.topics, ", "))
	}
	if e.state != "" {
		fmt.Fprintf(&b, "    state: %s\n", e.state)
	}
	return b.String() + e.more
}

// document is the text of a file.
func configText(clusters map[string][]string, entries ...entry) string {
	var b strings.Builder
	b.WriteString("clusters:\n")
	for name, addrs := range clusters {
		fmt.Fprintf(&b, "  %s: {brokers: [%s]}\n", name, strings.Join(addrs, ", "))
	}
	if len(entries) == 0 {
		b.WriteString("consumers: []\n")
		return b.String()
	}
	b.WriteString("consumers:\n")
	for _, e := range entries {
		b.WriteString(e.yaml())
	}
	return b.String()
}
