package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"kcagent/sink"
)

var defaultFetch = Fetch{Lanes: 2, MaxBytes: 16 << 20, MaxWait: 500 * time.Millisecond}

// DefaultSessionTimeout is that of Kafka's own consumer since 3.0.
const DefaultSessionTimeout = 45 * time.Second

// normalise fills in what is left open and resolves what is named, so that two
// consumers mean the same if they are deeply equal.
func normalise(c *Consumer, conf *Config) {
	set(&c.Group, "kcagent-"+c.Name)
	set(&c.State, Running)
	set(&c.OnOutOfRange, ResetEarliest)
	set(&c.Isolation, ReadCommitted)
	set(&c.MaxPartitionBytes, 1<<20)
	set(&c.StallTimeout, time.Minute)
	set(&c.Flush.Interval, time.Second)
	set(&c.Flush.Bytes, 64<<20)
	c.Topics = unique(c.Topics)
	c.Brokers = unique(c.Brokers)
	if c.Brokers != nil {
		c.Cluster = Cluster{Brokers: c.Brokers, Fetch: defaultFetch, SessionTimeout: DefaultSessionTimeout}
	} else if cluster, ok := conf.Clusters[c.ClusterName]; ok {
		c.Cluster = cluster
	}
	if f := c.Sink.File; f != nil {
		set(&f.Format, sink.Raw)
		set(&f.Delivery, sink.ExactlyOnce)
		set(&f.Durability, sink.Fsync)
		set(&f.Compression, sink.Uncompressed)
		set(&f.Mode, 0o640)
		if f.Path != "" {
			f.Path = filepath.Clean(strings.ReplaceAll(f.Path, "{name}", c.Name))
		}
		if f.Rotate != nil && *f.Rotate == (sink.Rotate{}) {
			f.Rotate = nil
		}
	}
	if s := c.Sink.Stdout; s != nil {
		set(&s.Format, sink.JSON)
	}
}

func set[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// unique sorts and drops repeats: neither means anything.
func unique(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// clusters normalises and checks the clusters.
func (p *parser) clusters(root *yaml.Node, conf *Config) {
	nodes := child(root, "clusters")
	for name, c := range conf.Clusters {
		path := "clusters." + name
		node := child(nodes, name)
		set(&c.Fetch.Lanes, defaultFetch.Lanes)
		set(&c.Fetch.MaxBytes, defaultFetch.MaxBytes)
		set(&c.Fetch.MaxWait, defaultFetch.MaxWait)
		set(&c.SessionTimeout, DefaultSessionTimeout)
		c.Brokers = unique(c.Brokers)
		conf.Clusters[name] = c
		if !p.told[path] { // else it is no block at all
			p.checkCluster(node, path, c)
		}
	}
}

// What limits.max_batch may be.
const (
	leastMaxBatch = 1 << 20
	mostMaxBatch  = 2047 << 20
)

func (p *parser) limits(root *yaml.Node, conf *Config) {
	node := child(root, "limits")
	if node == nil {
		return
	}
	l := conf.Limits
	if child(node, "max_consumers") != nil && l.MaxConsumers < 1 {
		p.fault(node, "limits", "max_consumers", fmt.Sprintf("%d is no limit: write a number from 1 on", l.MaxConsumers), "")
	}
	if l.MaxRemovedPercent < 0 || l.MaxRemovedPercent > 100 {
		p.fault(node, "limits", "max_removed_percent", fmt.Sprintf("%d is no share: write 0 to 100", l.MaxRemovedPercent), "")
	}
	if n := int64(l.MaxBatch); child(node, "max_batch") != nil && (n < leastMaxBatch || n > mostMaxBatch) {
		p.fault(node, "limits", "max_batch", fmt.Sprintf("invalid size %s: must be from 1MiB to 2047MiB, which is Kafka's own limit", l.MaxBatch), "")
	}
}

// defaults checks the shape of the defaults once, and remembers its nodes, so
// that what is wrong with them is told there and not at each consumer.
func (p *parser) defaults(n *yaml.Node) *yaml.Node {
	var shape Consumer
	p.inherit(n, "defaults")
	p.decode(n, "defaults", reflect.ValueOf(&shape).Elem())
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for key := range pairs(n) {
		if key.Value == "name" {
			p.report(key, "defaults.name", "a name cannot be a default: each consumer has its own", "")
			return without(n, "name")
		}
	}
	return n
}

// inherit remembers n and all below as nodes of the defaults.
func (p *parser) inherit(n *yaml.Node, path string) {
	p.inherited[n] = path
	for key, value := range pairs(n) {
		at := below(path, key.Value)
		p.inherited[key] = at
		p.inherit(value, at)
	}
	if n.Kind == yaml.SequenceNode {
		for i, e := range n.Content {
			p.inherit(e, fmt.Sprintf("%s[%d]", path, i))
		}
	}
}
