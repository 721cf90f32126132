package config

import (
	"fmt"
	"iter"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Bounds of a file's structure. Aliases can make a small file stand for a huge
// one, so what they stand for is counted.
const (
	maxDepth = 32
	maxNodes = 1 << 20
)

// resolve returns a copy of n without aliases and merges, its variables
// expanded. Problems in it are reported and the rest is still used. open holds
// the anchors that are being resolved, to find one that contains itself.
func (p *parser) resolve(n *yaml.Node, path string, depth int, open []*yaml.Node) *yaml.Node {
	p.copied++
	switch {
	case depth > maxDepth:
		p.report(n, path, fmt.Sprintf("nested more than %d deep", maxDepth), "")
		return empty(n)
	case p.copied == maxNodes:
		p.report(n, path, "aliases make the file too large", "")
		return empty(n)
	case p.copied > maxNodes:
		return empty(n)
	}
	switch n.Kind {
	case yaml.AliasNode:
		for _, o := range open {
			if o == n.Alias {
				p.report(n, path, "the alias *"+n.Value+" contains itself", "")
				return empty(n)
			}
		}
		return p.resolve(n.Alias, path, depth+1, append(open[:len(open):len(open)], n.Alias))
	case yaml.ScalarNode:
		return p.expandScalar(n, path)
	case yaml.SequenceNode:
		c := *n
		c.Content = make([]*yaml.Node, len(n.Content))
		for i, e := range n.Content {
			c.Content[i] = p.resolve(e, fmt.Sprintf("%s[%d]", path, i), depth+1, open)
		}
		return &c
	}
	return p.resolveMapping(n, path, depth, open)
}

func (p *parser) resolveMapping(n *yaml.Node, path string, depth int, open []*yaml.Node) *yaml.Node {
	c := *n
	c.Content = nil
	var merged []*yaml.Node
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		below := below(path, key.Value)
		switch line, twice := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			p.report(key, path, "a key must be a plain text, found "+kindOf(key), "")
			continue
		case twice:
			p.report(key, below, "duplicate key", fmt.Sprintf("the first is in line %d", line))
			continue
		}
		seen[key.Value] = key.Line
		v := p.resolve(value, below, depth+1, open)
		if key.Tag == "!!merge" {
			merged = append(merged, p.mergeSources(v, below)...)
			continue
		}
		c.Content = append(c.Content, key, v)
	}
	// What stands in the mapping itself wins, and an earlier source over a
	// later one.
	for _, m := range merged {
		for k, v := range pairs(m) {
			if child(&c, k.Value) == nil {
				c.Content = append(c.Content, k, v)
			}
		}
	}
	return &c
}

// mergeSources lists the mappings that a << key names.
func (p *parser) mergeSources(v *yaml.Node, path string) []*yaml.Node {
	sources := []*yaml.Node{v}
	if v.Kind == yaml.SequenceNode {
		sources = v.Content
	}
	for _, s := range sources {
		if s.Kind != yaml.MappingNode {
			p.report(s, path, "<< expects a mapping, found "+kindOf(s), "")
			return nil
		}
	}
	return sources
}

// empty stands for what could not be resolved.
func empty(n *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line, Column: n.Column}
}

// pairs yields the keys and values of a mapping.
func pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(k, v *yaml.Node) bool) {
		if n.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// child is the value of a key, nil if there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil {
		return nil
	}
	for k, v := range pairs(n) {
		if k.Value == key {
			return v
		}
	}
	return nil
}

// find goes down a path such as consumers[1].sink.file as far as the file
// goes.
func find(n *yaml.Node, path string) *yaml.Node {
	for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		next := child(n, step)
		if i, err := strconv.Atoi(step); err == nil && n.Kind == yaml.SequenceNode && i < len(n.Content) {
			next = n.Content[i]
		}
		if next == nil {
			break
		}
		n = next
	}
	return n
}

func below(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// kindOf names what a node is, for people, and never shows its text: it may be
// a secret.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!null":
		return "nothing"
	case "!!bool":
		return "a boolean"
	case "!!int", "!!float":
		return "a number"
	case "!!str":
		return "a text"
	case "!!timestamp":
		return "a time"
	}
	return "something else"
}

// inherit fills what own leaves out from defaults, nested mappings included.
// The nodes of defaults are shared, not copied, so that they are recognised.
func inherit(own, defaults *yaml.Node) *yaml.Node {
	if defaults == nil {
		return own
	}
	leave := make(map[string]bool)
	for _, alternatives := range [][]string{{"cluster", "brokers"}, {"topics", "topics_regex"}} {
		if child(own, alternatives[0]) != nil || child(own, alternatives[1]) != nil {
			leave[alternatives[0]], leave[alternatives[1]] = true, true
		}
	}
	if s := child(own, "sink"); s != nil && s.Kind == yaml.MappingNode && len(s.Content) > 0 {
		// Another kind of sink takes nothing from the default one.
		if d := child(defaults, "sink"); d != nil && d.Kind == yaml.MappingNode {
			same := *d
			same.Content = nil
			for k, v := range pairs(d) {
				if child(s, k.Value) != nil {
					same.Content = append(same.Content, k, v)
				}
			}
			own = fill(own, &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "sink"}, &same}}, nil)
			leave["sink"] = true
		}
	}
	return fill(own, defaults, leave)
}

func without(n *yaml.Node, key string) *yaml.Node {
	c := *n
	c.Content = nil
	for k, v := range pairs(n) {
		if k.Value != key {
			c.Content = append(c.Content, k, v)
		}
	}
	return &c
}

func fill(own, from *yaml.Node, leave map[string]bool) *yaml.Node {
	c := *own
	c.Content = append([]*yaml.Node(nil), own.Content...)
	for k, v := range pairs(from) {
		mine := child(own, k.Value)
		switch {
		case mine == nil && !leave[k.Value]:
			c.Content = append(c.Content, k, v)
		case mine != nil && !leave[k.Value] && mine.Kind == yaml.MappingNode && v.Kind == yaml.MappingNode:
			filled := fill(mine, v, nil)
			for i := 0; i+1 < len(c.Content); i += 2 {
				if c.Content[i].Value == k.Value {
					c.Content[i+1] = filled
				}
			}
		}
	}
	return &c
}
