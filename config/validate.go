package config

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/IBM/sarama"
	"gopkg.in/yaml.v3"

	"kcagent/sink"
)

var (
	legalName       = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)
	legalTopic      = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)
	legalInstanceID = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)
	placeholder     = regexp.MustCompile(`\{[^{}]*\}`)
)

// fault reports a broken rule at field below path, unless something is already
// said about it: one mistake is told once.
func (p *parser) fault(node *yaml.Node, path, field, message, hint string) {
	at := below(path, field)
	for told := range p.told {
		if told == at || strings.HasPrefix(told, at+".") || strings.HasPrefix(told, at+"[") {
			return
		}
	}
	p.report(find(node, field), at, message, hint)
}

// checkCluster applies the rules for one cluster.
func (p *parser) checkCluster(n *yaml.Node, path string, c Cluster) {
	p.checkBrokers(n, path, c.Brokers, true)
	for field := range c.Files() {
		if message, hint := p.unexpanded(find(n, field), true); message != "" {
			p.fault(n, path, field, message, hint)
		}
	}
	if t := c.TLS; t != nil {
		switch {
		case t.CertFile != "" && t.KeyFile == "":
			p.fault(n, path, "tls.cert_file", "stands without key_file", "name the key, too")
		case t.CertFile == "" && t.KeyFile != "":
			p.fault(n, path, "tls.key_file", "stands without cert_file", "name the certificate, too")
		}
	}
	if c.SASL != nil {
		p.checkSASL(n, path, *c.SASL)
	}
	if c.KafkaVersion != "" {
		v, err := sarama.ParseKafkaVersion(c.KafkaVersion)
		switch {
		case err != nil:
			p.fault(n, path, "kafka_version", strconv.Quote(c.KafkaVersion)+" is no Kafka version", `write it like "3.6.0"`)
		case !v.IsAtLeast(sarama.V0_11_0_0):
			p.fault(n, path, "kafka_version", c.KafkaVersion+" is too old: 0.11.0.0 is the oldest that works", "")
		}
	}
	if r := c.Rack; len(r) > 255 || strings.TrimSpace(r) != r || strings.ContainsFunc(r, unicode.IsControl) {
		p.fault(n, path, "rack", fmt.Sprintf("invalid rack %q: it must be at most 255 bytes, without spaces at its ends or control characters", r), "write it as in the brokers' broker.rack")
	}
	if l := c.Fetch.Lanes; l < 1 || l > 64 {
		p.fault(n, path, "fetch.lanes", fmt.Sprintf("%d is out of range: write 1 to 64", l), "")
	}
	p.checkSize(n, path, "fetch.max_bytes", c.Fetch.MaxBytes, 1<<10, 1<<30)
	p.checkDuration(n, path, "fetch.max_wait", c.Fetch.MaxWait, time.Millisecond, 10*time.Second)
	p.checkDuration(n, path, "session_timeout", c.SessionTimeout, 6*time.Second, time.Hour)
}

func (p *parser) checkBrokers(n *yaml.Node, path string, brokers []string, required bool) {
	if len(brokers) == 0 {
		if required {
			p.fault(n, path, "brokers", "missing: name at least one broker", "write host:port in brackets")
		}
		return
	}
	list := find(n, "brokers")
	for i, e := range list.Content {
		at := fmt.Sprintf("brokers[%d]", i)
		literal, hint := p.unexpanded(e, false)
		switch message := brokerProblem(e.Value); {
		case e.Kind != yaml.ScalarNode:
		case literal != "":
			p.fault(n, path, at, literal, hint)
		case strings.Contains(e.Value, "@"):
			p.fault(n, path, at, "holds a user and perhaps a password, which would show", "write host:port, such as kafka-1:9092, and set sasl")
		case message != "":
			p.fault(n, path, at, strconv.Quote(e.Value)+" "+message, "write host:port, such as kafka-1:9092")
		}
	}
}

func brokerProblem(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || strings.ContainsAny(host, " /") {
		return "is no broker address"
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "has no port from 1 to 65535"
	}
	return ""
}

func (p *parser) checkSize(n *yaml.Node, path, field string, s, least, most sink.Size) {
	if s < least || s > most {
		p.fault(n, path, field, fmt.Sprintf("%s is out of range: write %s to %s", s, least, most), "")
	}
}

func (p *parser) checkDuration(n *yaml.Node, path, field string, d, least, most time.Duration) {
	if d < least || d > most {
		p.fault(n, path, field, fmt.Sprintf("%s is out of range: write %s to %s", d, least, most), "")
	}
}

// check applies the rules for one consumer.
func (p *parser) check(e *entry, conf *Config) {
	c, n, path := &e.consumer, e.node, e.path
	switch {
	case c.Name == "":
		p.fault(n, path, "name", "missing", "give each consumer a name of its own")
	case !legalName.MatchString(c.Name):
		p.fault(n, path, "name", strconv.Quote(c.Name)+" is no name: write a-z or 0-9, then a-z, 0-9, dot, underscore or dash, 100 at most", "")
	}
	p.checkWhere(n, path, c, conf)
	p.checkTopics(n, path, c)
	if !legalGroup(c.Group) {
		p.fault(n, path, "group", strconv.Quote(c.Group)+" is no group name", "")
	}
	if c.InstanceID != "" && !legalInstanceID.MatchString(c.InstanceID) {
		p.fault(n, path, "instance_id", strconv.Quote(c.InstanceID)+" is no instance id: write letters, digits, dot, underscore or dash, 249 at most", "")
	}
	p.checkSize(n, path, "max_partition_bytes", c.MaxPartitionBytes, 1<<10, 1<<30)
	p.checkDuration(n, path, "stall_timeout", c.StallTimeout, time.Second, 24*time.Hour)
	p.checkDuration(n, path, "flush.interval", c.Flush.Interval, 10*time.Millisecond, time.Hour)
	p.checkSize(n, path, "flush.bytes", c.Flush.Bytes, 1<<10, 1<<40)
	p.checkSink(n, path, c)
}

func legalGroup(g string) bool {
	return g != "" && len(g) <= 255 && strings.TrimSpace(g) == g && !strings.ContainsAny(g, "\x00\n\r")
}

// checkWhere checks where the consumer's cluster is said.
func (p *parser) checkWhere(n *yaml.Node, path string, c *Consumer, conf *Config) {
	cluster, brokers := child(n, "cluster"), child(n, "brokers")
	switch {
	case cluster != nil && brokers != nil:
		p.fault(n, path, "brokers", "stands beside cluster: only one of them can hold", "remove one")
	case cluster == nil && brokers == nil:
		p.fault(n, path, "cluster", "missing: name a cluster, or brokers", "")
	case brokers != nil:
		p.checkBrokers(n, path, c.Brokers, true)
	default:
		if _, ok := conf.Clusters[c.ClusterName]; !ok {
			names := make([]string, 0, len(conf.Clusters))
			for name := range conf.Clusters {
				names = append(names, name)
			}
			p.fault(n, path, "cluster", "no cluster is named "+strconv.Quote(c.ClusterName), meant(c.ClusterName, names))
		}
	}
}

func (p *parser) checkTopics(n *yaml.Node, path string, c *Consumer) {
	list, pattern := child(n, "topics"), child(n, "topics_regex")
	switch {
	case list != nil && pattern != nil:
		p.fault(n, path, "topics_regex", "stands beside topics: only one of them can hold", "remove one")
	case list == nil && pattern == nil:
		p.fault(n, path, "topics", "missing: name the topics to read", "")
	case pattern != nil:
		if _, err := regexp.Compile(c.TopicsRegex); err != nil || c.TopicsRegex == "" {
			p.fault(n, path, "topics_regex", strconv.Quote(c.TopicsRegex)+" is no regular expression", "Go's syntax: https://pkg.go.dev/regexp/syntax")
		}
	case len(c.Topics) == 0:
		p.fault(n, path, "topics", "the list is empty: name at least one topic", "")
	default:
		for i, e := range list.Content {
			if t := e.Value; e.Kind == yaml.ScalarNode && (!legalTopic.MatchString(t) || t == "." || t == "..") {
				p.fault(n, path, fmt.Sprintf("topics[%d]", i), strconv.Quote(t)+" is no topic name", "")
			}
		}
	}
}

func (p *parser) checkSink(n *yaml.Node, path string, c *Consumer) {
	node := child(n, "sink")
	f := c.Sink.File
	switch {
	case node == nil:
		p.fault(n, path, "sink", "missing: say where the records go", "write `sink: {file: {path: …}}`")
		return
	case f != nil && c.Sink.Stdout != nil:
		p.fault(n, path, "sink.stdout", "stands beside file: a consumer has one kind of sink", "remove one")
	case f == nil && c.Sink.Stdout == nil:
		p.fault(n, path, "sink", "names no kind", "write file or stdout")
	}
	if f == nil {
		return
	}
	if child(child(node, "file"), "path") == nil {
		p.fault(n, path, "sink.file.path", "missing: say which file", "")
		return
	}
	if message, hint := p.pathProblem(find(n, "sink.file.path"), c); message != "" {
		p.fault(n, path, "sink.file.path", message, hint)
	}
	if r := f.Rotate; r != nil {
		p.checkRotate(n, path, *r)
	}
}

// checkRotate checks when a file is ended. A field that is zero is no limit.
func (p *parser) checkRotate(n *yaml.Node, path string, r sink.Rotate) {
	const at = "sink.file.rotate."
	if r.Size != 0 {
		p.checkSize(n, path, at+"size", r.Size, 1<<10, 1<<50)
	}
	if r.Every != 0 {
		p.checkDuration(n, path, at+"every", r.Every, time.Second, 366*24*time.Hour)
	}
	if r.KeepFor != 0 {
		p.checkDuration(n, path, at+"keep_for", r.KeepFor, time.Second, 100*366*24*time.Hour)
	}
	switch {
	case r.Keep < 0:
		p.fault(n, path, at+"keep", "a negative number of files cannot be kept", "")
	case r.Size == 0 && r.Every == 0 && r.Keep != 0:
		p.fault(n, path, at+"keep", "limits complete files, and nothing completes one", "add size or every")
	case r.Size == 0 && r.Every == 0 && r.KeepFor != 0:
		p.fault(n, path, at+"keep_for", "limits complete files, and nothing completes one", "add size or every")
	}
}

var placeholders = []string{"name", "topic", "partition"}

// pathProblem returns what is wrong with the path of a file, as it is written: to
// clean it would hide a .. behind a placeholder.
func (p *parser) pathProblem(n *yaml.Node, c *Consumer) (message, hint string) {
	path := n.Value
	if path == "" {
		return "missing: say which file", ""
	}
	if message, hint = p.unexpanded(n, true); message != "" {
		return message, hint
	}
	open := false
	for _, found := range placeholder.FindAllString(path, -1) {
		name := strings.Trim(found, "{}")
		if !slices.Contains(placeholders, name) {
			return "no placeholder is named " + found, meant(name, placeholders)
		}
		open = true
	}
	rest := placeholder.ReplaceAllString(path, "")
	switch {
	case strings.ContainsAny(rest, "{}"):
		return "a brace is not closed", "the placeholders are {name}, {topic} and {partition}"
	case strings.ContainsRune(path, 0):
		return "holds a zero byte", ""
	case open && escapes(path):
		return "the path leaves its folder by .. and holds placeholders", "write the folder out"
	}
	if bad := new(sink.NameError); errors.As(sink.CheckPath(strings.ReplaceAll(path, "{name}", c.Name), c.Topics), &bad) {
		return bad.Cause, bad.Hint
	}
	return "", ""
}

func escapes(path string) bool {
	for _, e := range strings.Split(filepath.ToSlash(path), "/") {
		if e == ".." {
			return true
		}
	}
	return false
}
