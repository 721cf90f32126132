package config

import (
	"gopkg.in/yaml.v3"

	"kcagent/sink"
)

// What the file may say and this version does not do yet is refused at its
// place: silence would promise it.

const notYet = " is not supported by this version yet"

func (p *parser) notYetCluster(n *yaml.Node, path string, c Cluster) {
	if s := c.SASL; s != nil && s.Mechanism != "" && s.Mechanism != Plain {
		p.fault(n, path, "sasl.mechanism", string(s.Mechanism)+notYet, "use PLAIN, over tls")
	}
}

func (p *parser) notYetConsumer(n *yaml.Node, path string, c *Consumer) {
	if c.TopicsRegex != "" {
		p.fault(n, path, "topics_regex", "topics_regex"+notYet, "list the topics")
	}
	if c.InstanceID != "" {
		p.fault(n, path, "instance_id", "static membership"+notYet, "leave it out")
	}
	f := c.Sink.File
	if f == nil {
		return
	}
	if f.Delivery == sink.ExactlyOnce {
		p.fault(n, path, "sink.file.delivery", "exactly_once"+notYet, "use at_least_once, which is the default until then")
	}
	if f.Rotate != nil {
		p.fault(n, path, "sink.file.rotate", "rotate"+notYet, "leave it out and move the file away by other means: it is then opened anew")
	}
	if f.Compression != sink.Uncompressed {
		p.fault(n, path, "sink.file.compression", "compression"+notYet, "leave it out")
	}
}
