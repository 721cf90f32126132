package config

import "gopkg.in/yaml.v3"

// What the file may say and this version does not do yet is refused at its
// place: silence would promise it.

const notYet = " is not supported by this version yet"

func (p *parser) notYetCluster(n *yaml.Node, path string, c Cluster) {
	if s := c.SASL; s != nil && s.Mechanism == OAuthBearer {
		p.fault(n, path, "sasl.mechanism", string(s.Mechanism)+notYet, "use SCRAM-SHA-512 or PLAIN, over tls")
	}
}
