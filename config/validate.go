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

	"kcagent/config/objects"
	"kcagent/config/strictyaml"
	"kcagent/sink"
	"kcagent/sink/file/filename"
	"kcagent/sink/template"
)

var (
	legalName       = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)
	legalTopic      = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)
	legalInstanceID = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)
	placeholder     = regexp.MustCompile(`\{[^{}]*\}`)
)

// checkCluster applies the rules for one cluster.
func (p *parser) checkCluster(n *yaml.Node, path string, c Cluster) {
	p.checkBrokers(n, path, c.Brokers, true)
	if t := c.TLS; t != nil {
		switch {
		case t.CertFile != "" && t.KeyFile == "":
			p.doc.ReportField(n, path, "tls.cert_file", "requires key_file", "add key_file")
		case t.CertFile == "" && t.KeyFile != "":
			p.doc.ReportField(n, path, "tls.key_file", "requires cert_file", "add cert_file")
		}
	}
	if c.SASL != nil {
		p.checkSASL(n, path, *c.SASL)
	}
	if c.KafkaVersion != "" {
		v, err := sarama.ParseKafkaVersion(c.KafkaVersion)
		switch {
		case err != nil:
			p.doc.ReportField(n, path, "kafka_version", "invalid Kafka version "+strconv.Quote(c.KafkaVersion), `use a version such as "3.6.0"`)
		case !v.IsAtLeast(sarama.V0_11_0_0):
			p.doc.ReportField(n, path, "kafka_version", "unsupported Kafka version "+c.KafkaVersion+": must be 0.11.0.0 or later", "")
		}
	}
	if r := c.Rack; len(r) > 255 || strings.TrimSpace(r) != r || strings.ContainsFunc(r, unicode.IsControl) {
		p.doc.ReportField(n, path, "rack", fmt.Sprintf("invalid rack %q: must be at most 255 bytes, without spaces at its ends or control characters", r), "use the name in broker.rack of the brokers")
	}
	if l := c.Fetch.Lanes; l < 1 || l > 64 {
		p.doc.ReportField(n, path, "fetch.lanes", fmt.Sprintf("invalid number %d: must be from 1 to 64", l), "")
	}
	p.checkSize(n, path, "fetch.max_bytes", c.Fetch.MaxBytes, 1<<10, 1<<30)
	p.checkDuration(n, path, "fetch.max_wait", c.Fetch.MaxWait, time.Millisecond, 10*time.Second)
	p.checkDuration(n, path, "session_timeout", c.SessionTimeout, 6*time.Second, time.Hour)
}

func (p *parser) checkBrokers(n *yaml.Node, path string, brokers []string, required bool) {
	if len(brokers) == 0 {
		if required {
			p.doc.ReportField(n, path, "brokers", "missing: list at least one broker", "write host:port in brackets")
		}
		return
	}
	list := strictyaml.Find(n, "brokers")
	for i, e := range list.Content {
		at := fmt.Sprintf("brokers[%d]", i)
		switch problem := BrokerProblem(e.Value); {
		case e.Kind != yaml.ScalarNode:
		case strings.Contains(e.Value, "@"):
			p.doc.ReportField(n, path, at, "contains a user or a password, which would be visible", "use host:port, such as kafka-1:9092, and set sasl")
		case problem != "" && strings.Contains(e.Value, ","):
			p.doc.ReportField(n, path, at, "invalid address "+strconv.Quote(e.Value)+": "+problem, "write a list: one element for each broker")
		case problem != "":
			p.doc.ReportField(n, path, at, "invalid address "+strconv.Quote(e.Value)+": "+problem, "use host:port, such as kafka-1:9092")
		}
	}
}

// BrokerProblem says what is wrong with the address of a broker; "" if nothing is.
func BrokerProblem(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || strings.ContainsAny(host, " /") {
		return "must be host:port"
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "the port must be from 1 to 65535"
	}
	return ""
}

func (p *parser) checkSize(n *yaml.Node, path, field string, s, least, most sink.Size) {
	if s < least || s > most {
		p.doc.ReportField(n, path, field, fmt.Sprintf("invalid size %s: must be from %s to %s", s, least, most), "")
	}
}

func (p *parser) checkDuration(n *yaml.Node, path, field string, d, least, most time.Duration) {
	if d < least || d > most {
		p.doc.ReportField(n, path, field, fmt.Sprintf("invalid duration %s: must be from %s to %s", d, least, most), "")
	}
}

// check applies the rules for one consumer.
func (p *parser) check(e *entry, conf *Config) {
	c, n, path := &e.consumer, e.node, e.path
	switch {
	case c.Name == "":
		p.doc.ReportField(n, path, "name", "missing", "each consumer requires its own name")
	case !legalName.MatchString(c.Name):
		p.doc.ReportField(n, path, "name", "invalid name "+strconv.Quote(c.Name)+": must be a-z or 0-9, then a-z, 0-9, dot, underscore or dash, at most 100 characters", "")
	}
	p.checkTarget(n, path, c, conf)
	p.checkTopics(n, path, c)
	for field, value := range map[string]string{"group": c.Group, "instance_id": c.InstanceID} {
		if found := placeholder.FindString(value); found != "" {
			p.doc.ReportField(n, path, field, "unknown placeholder "+found, "use {name}, which is the name of the consumer")
		}
	}
	if !legalGroup(c.Group) {
		p.doc.ReportField(n, path, "group", "invalid group "+strconv.Quote(c.Group)+": must be 1 to 255 bytes, without line breaks or spaces at its ends", "")
	}
	if c.InstanceID != "" && !legalInstanceID.MatchString(c.InstanceID) {
		p.doc.ReportField(n, path, "instance_id", "invalid instance id "+strconv.Quote(c.InstanceID)+": must be letters, digits, dot, underscore or dash, at most 249 characters", "")
	}
	p.checkSize(n, path, "max_partition_bytes", c.MaxPartitionBytes, 1<<10, 1<<30)
	p.checkDuration(n, path, "stall_timeout", c.StallTimeout, time.Second, 24*time.Hour)
	p.checkDuration(n, path, "flush.interval", c.Flush.Interval, 10*time.Millisecond, time.Hour)
	p.checkSize(n, path, "flush.bytes", c.Flush.Bytes, 1<<10, 1<<40)
	p.checkSink(n, path, c)
	p.checkOnError(n, path, c)
}

func legalGroup(g string) bool {
	return g != "" && len(g) <= 255 && strings.TrimSpace(g) == g && !strings.ContainsAny(g, "\x00\n\r")
}

// checkTarget checks that the consumer names exactly one cluster, which exists.
func (p *parser) checkTarget(n *yaml.Node, path string, c *Consumer, conf *Config) {
	cluster, brokers := strictyaml.Child(n, "cluster"), strictyaml.Child(n, "brokers")
	switch {
	case cluster != nil && brokers != nil:
		p.doc.ReportField(n, path, "brokers", "cannot be combined with cluster", "remove one")
	case cluster == nil && brokers == nil:
		p.doc.ReportField(n, path, "cluster", "missing: set cluster or brokers", "")
	case brokers != nil:
		p.checkBrokers(n, path, c.Brokers, true)
	default:
		if _, ok := conf.Clusters[c.ClusterName]; !ok {
			names := make([]string, 0, len(conf.Clusters))
			for name := range conf.Clusters {
				names = append(names, name)
			}
			p.doc.ReportField(n, path, "cluster", "cluster "+strconv.Quote(c.ClusterName)+" not found", strictyaml.Suggest(c.ClusterName, names))
		}
	}
}

func (p *parser) checkTopics(n *yaml.Node, path string, c *Consumer) {
	list, pattern := strictyaml.Child(n, "topics"), strictyaml.Child(n, "topics_regex")
	switch {
	case list != nil && pattern != nil:
		p.doc.ReportField(n, path, "topics_regex", "cannot be combined with topics", "remove one")
	case list == nil && pattern == nil:
		p.doc.ReportField(n, path, "topics", "missing: list the topics to read", "")
	case pattern != nil:
		if _, err := regexp.Compile(c.TopicsRegex); err != nil || c.TopicsRegex == "" {
			p.doc.ReportField(n, path, "topics_regex", "invalid regular expression "+strconv.Quote(c.TopicsRegex), "use the syntax of https://pkg.go.dev/regexp/syntax")
		}
	case len(c.Topics) == 0:
		p.doc.ReportField(n, path, "topics", "empty list: list at least one topic", "")
	default:
		for i, e := range list.Content {
			if t := e.Value; e.Kind == yaml.ScalarNode && (!legalTopic.MatchString(t) || t == "." || t == "..") {
				p.doc.ReportField(n, path, fmt.Sprintf("topics[%d]", i), "invalid topic "+strconv.Quote(t)+": must be letters, digits, dot, underscore or dash, at most 249 characters", topicHint(t))
			}
		}
	}
}

func topicHint(topic string) string {
	switch {
	case strings.Contains(topic, ","):
		return "write a list: one element for each topic"
	case strings.ContainsAny(topic, "*^$|+?("):
		return "use topics_regex for a pattern"
	}
	return ""
}

func (p *parser) checkSink(n *yaml.Node, path string, c *Consumer) {
	node := strictyaml.Child(n, "sink")
	switch set := c.Sink.Kinds(); {
	case node == nil:
		p.doc.ReportField(n, path, "sink", "missing: set where the records are written", "write `sink: {file: {path: …}}`")
		return
	case len(set) > 1:
		p.doc.ReportField(n, path, "sink."+set[1], fmt.Sprintf("cannot be combined with %s: a consumer has one kind of sink", set[0]), "remove one")
	case len(set) == 0:
		p.doc.ReportField(n, path, "sink", "missing: set the kind of sink", "write "+strings.Join(sink.KindNames(), " or "))
	}
	if c.Sink.File != nil {
		p.checkFile(n, path, "sink.file", c.Sink.File, c)
	}
	if c.Sink.Objects != nil {
		for _, f := range objects.Check(*c.Sink.Objects, c.Topics) {
			field := "sink.objects." + f.Field
			if f.Warning {
				p.doc.Warn(strictyaml.Find(n, field), path+"."+field, f.Message, f.Hint)
				continue
			}
			p.doc.ReportField(n, path, field, f.Message, f.Hint)
		}
	}
}

// checkFile checks the settings of a file below the key at.
func (p *parser) checkFile(n *yaml.Node, path, at string, f *sink.FileSpec, c *Consumer) {
	node := strictyaml.Find(n, at)
	if strictyaml.Child(node, "path") == nil {
		p.doc.ReportField(n, path, at+".path", "missing: set the file to write", "")
		return
	}
	if message, hint := p.pathProblem(strictyaml.Child(node, "path"), c); message != "" {
		p.doc.ReportField(n, path, at+".path", message, hint)
	}
	p.checkFileTime(n, path, at, f)
	if m := f.Mode; m&0o600 != 0o600 {
		p.doc.ReportField(n, path, at+".mode", fmt.Sprintf("invalid file mode %q: the owner must be able to read and write the file", m), "use octal permissions such as \"0640\"")
	}
	if r := f.Rotate; r != nil {
		p.checkRotate(n, path, at+".rotate.", *r)
	}
}

// checkFileTime checks the settings of a path with {time:LAYOUT}, below the key at.
func (p *parser) checkFileTime(n *yaml.Node, path, at string, f *sink.FileSpec) {
	hasTime := filename.HasTime(f.Path)
	if _, err := time.LoadLocation(f.TimeZone); err != nil || f.TimeZone == "Local" {
		p.doc.ReportField(n, path, at+".time_zone", "unknown time zone "+strconv.Quote(f.TimeZone), "use UTC or a name of the IANA database, such as Europe/Berlin")
	}
	switch {
	case !hasTime && strictyaml.Child(strictyaml.Find(n, at), "time_zone") != nil:
		p.doc.ReportField(n, path, at+".time_zone", "requires {time:LAYOUT} in the path", "add it to the path, or remove time_zone")
	case hasTime && at == deadLetterFile:
		p.doc.ReportField(n, path, at+".path", "{time:LAYOUT} is not possible in the path of a dead-letter file", "remove it; rotate completes the file")
	case hasTime && f.Rotate != nil:
		p.doc.ReportField(n, path, at+".rotate", "cannot be combined with {time:LAYOUT} in the path, which separates the records by time already", "remove rotate, or {time:LAYOUT}")
	}
}

// checkRotate checks when a file is complete, below the keys at. A field that is zero is no
// limit.
func (p *parser) checkRotate(n *yaml.Node, path, at string, r sink.Rotate) {
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
		p.doc.ReportField(n, path, at+"keep", fmt.Sprintf("invalid number %d: must not be negative", r.Keep), "")
	case r.Size == 0 && r.Every == 0 && r.Keep != 0:
		p.doc.ReportField(n, path, at+"keep", "requires size or every: without them no file is complete", "add size or every")
	case r.Size == 0 && r.Every == 0 && r.KeepFor != 0:
		p.doc.ReportField(n, path, at+"keep_for", "requires size or every: without them no file is complete", "add size or every")
	}
}

var placeholders = []string{template.Name, template.Topic, template.Partition, template.Time}

// pathProblem says what is wrong with the path of a file. It checks the path as written:
// a clean path would hide a .. after a placeholder.
func (p *parser) pathProblem(n *yaml.Node, c *Consumer) (message, hint string) {
	path := n.Value
	if path == "" {
		return "missing: set the file to write", ""
	}
	hasPlaceholder := false
	for _, found := range placeholder.FindAllString(path, -1) {
		name, _, _ := strings.Cut(strings.Trim(found, "{}"), ":")
		if !slices.Contains(placeholders, name) {
			return "unknown placeholder " + found, strictyaml.Suggest(name, placeholders)
		}
		hasPlaceholder = true
	}
	rest := placeholder.ReplaceAllString(path, "")
	switch {
	case strings.ContainsAny(rest, "{}"):
		return "unclosed brace", "the placeholders are {name}, {topic}, {partition} and {time:LAYOUT}"
	case strings.ContainsRune(path, 0):
		return "contains a zero byte", ""
	case hasPlaceholder && escapes(path):
		return "a path with placeholders cannot contain ..", "write the path without .."
	}
	if bad := new(template.Error); hasPlaceholder {
		if _, err := template.Parse(path, nil); errors.As(err, &bad) {
			return bad.Cause, bad.Hint
		}
	}
	if bad := new(filename.Error); errors.As(filename.CheckPath(strings.ReplaceAll(path, "{name}", c.Name), c.Topics), &bad) {
		return bad.Cause, bad.Hint
	}
	return "", ""
}

func escapes(path string) bool {
	return slices.Contains(strings.Split(filepath.ToSlash(path), "/"), "..")
}
