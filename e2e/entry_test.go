package e2e

import (
	"fmt"
	"strings"
)

// An entry is one consumer of a configuration file.
type entry struct {
	name, cluster, group string
	topics               []string
	state                string // empty stands for running
	format               string
	path                 string // empty stands for standard output
	flush                string
	sink                 string // further keys of the file sink, such as "compression: zstd"
	objects              string // keys of sink.objects, which is used instead of a file
	more                 string // further lines
}

// The with methods return a copy with one change.

func (e entry) withState(state string) entry      { e.state = state; return e }
func (e entry) withFormat(format string) entry    { e.format = format; return e }
func (e entry) withGroup(group string) entry      { e.group = group; return e }
func (e entry) withTopics(topics ...string) entry { e.topics = topics; return e }
func (e entry) withFlush(flush string) entry      { e.flush = flush; return e }
func (e entry) withPath(path string) entry        { e.path = path; return e }
func (e entry) withCluster(cluster string) entry  { e.cluster = cluster; return e }
func (e entry) withSink(sink string) entry        { e.sink = sink; return e }

// static returns a copy that is a static member.
func (e entry) static(id string) entry { return e.with("instance_id: " + id) }

// with returns a copy with a further line.
func (e entry) with(line string) entry { e.more += "    " + line + "\n"; return e }

// pathOf returns the path of a topic's file.
func (e entry) pathOf(topic string) string { return strings.ReplaceAll(e.path, "{topic}", topic) }

// flushNever is a flush interval longer than any test. Only a pause, a stop or the end of
// the agent flushes.
const flushNever = "{interval: 1h, bytes: 1GiB}"

// yaml returns the entry as an item of the list of consumers.
func (e entry) yaml() string {
	sink := fmt.Sprintf("{file: {path: %q, format: %s, %s}}", e.path, e.format, e.sink)
	switch {
	case e.objects != "":
		sink = fmt.Sprintf("{objects: {%s}}", e.objects)
	case e.path == "":
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

// configText returns the text of a configuration file.
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
