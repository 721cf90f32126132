package textdiff

import (
	"errors"
	"io"
	"strings"

	"gopkg.in/yaml.v3"
)

// A placed node is a node of a text, in the order of the text.
type placed struct {
	*yaml.Node
	isKey  bool // of a mapping
	end    int  // index of the first node after this one and those below it
	key    int  // index of its key; -1 if it is not a value of a mapping
	secret bool // the value of a secret key, or what such a value refers to
}

// parse returns all nodes of a text; false if it is not YAML.
func parse(text string) (nodes []placed, ok bool) {
	d := yaml.NewDecoder(strings.NewReader(text))
	for {
		var document yaml.Node
		err := d.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, false
		}
		nodes = place(nodes, &document, -1, false)
	}
	markAnchors(nodes)
	return nodes, true
}

// place appends a node and those below it. In a login, each key is secret that is not known
// to be none.
func place(nodes []placed, n *yaml.Node, key int, login bool) []placed {
	at := len(nodes)
	nodes = append(nodes, placed{Node: n, key: key})
	if key >= 0 {
		name := nodes[key].Value
		known := false
		for _, k := range inLogin {
			known = known || k == name
		}
		nodes[at].secret = isSecretKey(name) || login && !known
		login = (login || name == "sasl") && name != "extensions" || nodes[at].secret
	}
	nodes[at].secret = nodes[at].secret || n.Kind == yaml.ScalarNode && userInfo.MatchString(strings.Join(strings.Fields(n.Value), ""))
	for i, child := range n.Content {
		next := len(nodes)
		switch {
		case n.Kind != yaml.MappingNode:
			nodes = place(nodes, child, -1, login)
		case i%2 == 0:
			nodes = place(nodes, child, -1, login)
			nodes[next].isKey = true
			key = next
		default:
			nodes = place(nodes, child, key, login)
		}
	}
	nodes[at].end = len(nodes)
	return nodes
}

// markAnchors makes secret what the secret values refer to.
func markAnchors(nodes []placed) {
	at := make(map[*yaml.Node]int, len(nodes))
	for i, n := range nodes {
		at[n.Node] = i
	}
	for again := true; again; {
		again = false
		for _, n := range nodes {
			if !n.secret {
				continue
			}
			for _, below := range nodes[at[n.Node]:n.end] {
				if target, ok := at[below.Alias]; ok && !nodes[target].secret {
					nodes[target].secret, again = true, true
				}
			}
		}
	}
}

// secretValues returns the texts of the secret scalars of a text that is YAML.
func secretValues(text string) (values []string) {
	nodes, _ := parse(text)
	for i, of := range nodes {
		if !of.secret {
			continue
		}
		for _, n := range nodes[i:of.end] {
			if n.Kind == yaml.ScalarNode && !n.isKey {
				values = append(values, n.Value)
			}
		}
	}
	return values
}

// hideNodes hides the secret nodes.
func (p *page) hideNodes(nodes []placed) {
	for _, n := range nodes {
		if !n.secret || n.Line == 0 {
			continue
		}
		line, column := n.Line-1, n.Column-1
		if n.key >= 0 { // a tag or an anchor may stand before the value
			key := nodes[n.key]
			line, column = key.Line-1, p.afterKey(key)
		}
		p.hideFrom(line, column)
		if p.endsOnLine(n) {
			for l := line + 1; l < n.Line; l++ {
				p.hideFrom(l, 0)
			}
			continue
		}
		lastLine, lastColumn := len(p.lines), 0
		if n.end < len(nodes) && nodes[n.end].Line > 0 {
			lastLine, lastColumn = nodes[n.end].Line-1, nodes[n.end].Column-1
		}
		for l := line + 1; l < lastLine; l++ {
			p.hideFrom(l, 0)
		}
		if lastLine > line && lastLine < len(p.lines) && strings.Trim(string(p.lines[lastLine][:lastColumn]), " -?") != "" {
			p.upTo[lastLine] = max(p.upTo[lastLine], lastColumn)
		}
	}
}

// afterKey returns the column after the colon of a key, or that of the key if it has none in
// its line.
func (p *page) afterKey(key placed) int {
	rest := p.lines[key.Line-1][min(key.Column-1, len(p.lines[key.Line-1])):]
	plain := []rune(key.Value + ":")
	if len(rest) >= len(plain) && string(rest[:len(plain)]) == string(plain) {
		return key.Column - 1 + len(plain)
	}
	for i, r := range rest {
		if r == ':' {
			return key.Column + i
		}
	}
	return key.Column - 1
}

// endsOnLine reports whether all of a scalar is in the line where it begins.
func (p *page) endsOnLine(n placed) bool {
	if n.Kind == yaml.AliasNode {
		return true
	}
	if n.Kind != yaml.ScalarNode || n.Value == "" || n.Line > len(p.lines) || n.Column > len(p.lines[n.Line-1]) {
		return false
	}
	rest := string(p.lines[n.Line-1][n.Column-1:])
	switch n.Style {
	case 0:
		return strings.HasPrefix(rest, n.Value)
	case yaml.SingleQuotedStyle:
		return strings.HasPrefix(rest, "'"+n.Value+"'")
	case yaml.DoubleQuotedStyle:
		return strings.HasPrefix(rest, `"`+n.Value+`"`)
	}
	return false
}
