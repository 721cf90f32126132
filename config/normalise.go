package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"kcagent/config/objects"
	"kcagent/config/strictyaml"
	"kcagent/sink"
	"kcagent/sink/file/filename"
)

var defaultFetch = Fetch{Lanes: 2, MaxBytes: 16 << 20, MaxWait: 500 * time.Millisecond}

// DefaultSessionTimeout is that of Kafka's own consumer since 3.0.
const DefaultSessionTimeout = 45 * time.Second

// normalise sets the defaults and resolves names, so that two consumers mean the same if
// they are deeply equal.
func normalise(c *Consumer, conf *Config) {
	setDefault(&c.Group, "kcagent-{name}")
	c.Group = strings.ReplaceAll(c.Group, "{name}", c.Name)
	c.InstanceID = strings.ReplaceAll(c.InstanceID, "{name}", c.Name)
	setDefault(&c.State, Running)
	setDefault(&c.OnOutOfRange, ResetEarliest)
	setDefault(&c.Isolation, ReadCommitted)
	c.Topics = sortedSet(c.Topics)
	c.Brokers = sortedSet(c.Brokers)
	if c.Brokers != nil {
		c.Cluster = Cluster{Brokers: c.Brokers, Fetch: defaultFetch, SessionTimeout: DefaultSessionTimeout}
	} else if cluster, ok := conf.Clusters[c.ClusterName]; ok {
		c.Cluster = cluster
	}
	if f := c.Sink.File; f != nil {
		normaliseFile(f, c.Name)
	}
	if o := c.Sink.Objects; o != nil {
		objects.Normalise(o, c.Name)
	}
	if s := c.Sink.Stdout; s != nil {
		setDefault(&s.Format, sink.JSON)
	}
	normaliseOnError(c)
}

// normaliseFile sets the defaults of a file that the consumer with this name writes.
func normaliseFile(f *sink.FileSpec, name string) {
	if filename.HasTime(f.Path) {
		setDefault(&f.TimeZone, "UTC")
	}
	setDefault(&f.Format, sink.Raw)
	setDefault(&f.Delivery, sink.ExactlyOnce)
	setDefault(&f.Durability, sink.Fsync)
	setDefault(&f.Compression, sink.Uncompressed)
	if f.Path != "" {
		f.Path = filepath.Clean(strings.ReplaceAll(f.Path, "{name}", name))
	}
	if f.Rotate != nil && *f.Rotate == (sink.Rotate{}) {
		f.Rotate = nil
	}
}

// SetDefaults sets the numbers and durations that the file may leave out. An explicit zero
// replaces them, and is rejected.
func (c *Consumer) SetDefaults() {
	c.MaxPartitionBytes, c.StallTimeout = 1<<20, time.Minute
	c.Flush = Flush{Interval: time.Second, Bytes: 64 << 20}
}

// SetDefaults sets the numbers and durations that the file may leave out.
func (c *Cluster) SetDefaults() { c.Fetch, c.SessionTimeout = defaultFetch, DefaultSessionTimeout }

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// sortedSet sorts the list and removes duplicates, because neither order nor repetition
// has a meaning.
func sortedSet(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// clusters normalises and checks the clusters.
func (p *parser) clusters(root *yaml.Node, conf *Config) {
	nodes := strictyaml.Child(root, "clusters")
	for name, c := range conf.Clusters {
		path := "clusters." + name
		node := strictyaml.Child(nodes, name)
		c.Brokers = sortedSet(c.Brokers)
		conf.Clusters[name] = c
		if !p.doc.Reported(path) { // else it is not a block
			p.checkCluster(node, path, c)
		}
	}
}

// The bounds of limits.max_batch, in bytes.
const (
	minMaxBatch = 1 << 20
	maxMaxBatch = 2047 << 20
)

func (p *parser) limits(root *yaml.Node, conf *Config) {
	node := strictyaml.Child(root, "limits")
	if node == nil {
		return
	}
	l := conf.Limits
	if strictyaml.Child(node, "max_consumers") != nil && l.MaxConsumers < 1 {
		p.doc.ReportField(node, "limits", "max_consumers", fmt.Sprintf("invalid limit %d: must be at least 1", l.MaxConsumers), "")
	}
	if l.MaxRemovedPercent < 0 || l.MaxRemovedPercent > 100 {
		p.doc.ReportField(node, "limits", "max_removed_percent", fmt.Sprintf("invalid percentage %d: must be from 0 to 100", l.MaxRemovedPercent), "")
	}
	if n := int64(l.MaxBatch); strictyaml.Child(node, "max_batch") != nil && (n < minMaxBatch || n > maxMaxBatch) {
		p.doc.ReportField(node, "limits", "max_batch", fmt.Sprintf("invalid size %s: must be from 1MiB to 2047MiB, which is Kafka's own limit", l.MaxBatch), "")
	}
}

// defaults checks the shape of the defaults once, and marks its nodes, so that a mistake
// in them is reported there and not at each consumer.
func (p *parser) defaults(n *yaml.Node) *yaml.Node {
	var shape Consumer
	p.doc.Inherit(n, "defaults")
	p.doc.Decode(n, "defaults", &shape)
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for key := range strictyaml.Pairs(n) {
		if key.Value == "name" {
			p.doc.Report(key, "defaults.name", "name cannot have a default: each consumer requires its own", "")
			return strictyaml.Without(n, "name")
		}
	}
	return n
}

// inherit fills the keys that own lacks from the defaults, nested mappings included. Of
// two alternatives it takes neither if own has one of them.
func inherit(own, defaults *yaml.Node) *yaml.Node {
	if defaults == nil {
		return own
	}
	skip := make(map[string]bool)
	for _, alternatives := range [][]string{{"cluster", "brokers"}, {"topics", "topics_regex"}} {
		if strictyaml.Child(own, alternatives[0]) != nil || strictyaml.Child(own, alternatives[1]) != nil {
			skip[alternatives[0]], skip[alternatives[1]] = true, true
		}
	}
	if s := strictyaml.Child(own, "sink"); s != nil && s.Kind == yaml.MappingNode && len(s.Content) > 0 {
		// Another kind of sink inherits nothing from the default kind.
		if d := strictyaml.Child(defaults, "sink"); d != nil && d.Kind == yaml.MappingNode {
			same := *d
			same.Content = nil
			for k, v := range strictyaml.Pairs(d) {
				if strictyaml.Child(s, k.Value) != nil {
					same.Content = append(same.Content, k, v)
				}
			}
			own = strictyaml.Fill(own, &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "sink"}, &same}}, nil)
			skip["sink"] = true
		}
	}
	return strictyaml.Fill(own, defaults, skip)
}
