package strictyaml

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Bounds of the structure of a file. A small file can stand for a huge one by aliases, so
// the nodes that they stand for are counted.
const (
	maxDepth = 32
	maxNodes = 1 << 20
)

// resolve returns a copy of n without aliases and merge keys, its variables expanded.
// Problems in it are reported, and the rest is still used. open holds the anchors that
// are being resolved, to find one that contains itself.
func (d *Document) resolve(n *yaml.Node, path string, depth int, open []*yaml.Node) *yaml.Node {
	d.copied++
	switch {
	case depth > maxDepth:
		d.Report(n, path, fmt.Sprintf("nested deeper than %d levels", maxDepth), "")
		return empty(n)
	case d.copied == maxNodes:
		d.Report(n, path, "aliases make the file too large", "")
		return empty(n)
	case d.copied > maxNodes:
		return empty(n)
	}
	if hint, unknown := unknownTag(n); unknown && n.Kind != yaml.AliasNode {
		if _, known := tagHints[n.ShortTag()]; !known && d.options.Kind(path) == Secret { // not named: it may be the secret
			d.Report(n, path, "a value that begins with ! is a tag, and is not supported", "quote the value")
		} else {
			d.Report(n, path, "the tag "+n.ShortTag()+" is not supported", hint)
		}
		e := empty(n)
		d.broken[e] = true
		return e
	}
	switch n.Kind {
	case yaml.AliasNode:
		if slices.Contains(open, n.Alias) {
			d.Report(n, path, "the alias *"+n.Value+" contains itself", "")
			return empty(n)
		}
		return d.resolve(n.Alias, path, depth+1, append(open[:len(open):len(open)], n.Alias))
	case yaml.ScalarNode:
		if d.reportLookalike(n, path) {
			d.broken[n] = true
			return n
		}
		return d.expand(n, path)
	case yaml.SequenceNode:
		c := *n
		c.Content = make([]*yaml.Node, len(n.Content))
		for i, e := range n.Content {
			c.Content[i] = d.resolve(e, fmt.Sprintf("%s[%d]", path, i), depth+1, open)
		}
		return &c
	}
	return d.resolveMapping(n, path, depth, open)
}

func (d *Document) resolveMapping(n *yaml.Node, path string, depth int, open []*yaml.Node) *yaml.Node {
	c := *n
	c.Content = nil
	var merged []*yaml.Node
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		at := Join(path, key.Value)
		switch line, twice := seen[key.Value]; {
		case key.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle != 0:
			d.Report(n, path, "a template is not rendered", renderHint) // {{ name }} without quotes
			d.broken[&c] = true
			return &c
		case key.Kind != yaml.ScalarNode:
			d.Report(key, path, "invalid key: expected a text, found "+KindOf(key), "")
			continue
		case twice:
			d.Report(key, at, "duplicate key", fmt.Sprintf("first used in line %d", line))
			continue
		}
		seen[key.Value] = key.Line
		if path == "" && d.options.Ignore(key.Value) {
			continue
		}
		if d.reportLookalike(key, Join(path, cleaned(key.Value))) {
			continue
		}
		v := d.resolve(value, at, depth+1, open)
		if key.Tag == "!!merge" {
			merged = append(merged, d.mergeSources(v, at)...)
			continue
		}
		c.Content = append(c.Content, key, v)
	}
	// The keys of the mapping itself win, and an earlier source wins over a later one.
	for _, m := range merged {
		for k, v := range Pairs(m) {
			if Child(&c, k.Value) == nil {
				c.Content = append(c.Content, k, v)
			}
		}
	}
	return &c
}

// reportLookalike reports a text without quotes that contains a character by accident.
func (d *Document) reportLookalike(n *yaml.Node, path string) bool {
	if n.Style != 0 {
		return false
	}
	at, p := lookalike(n.Value)
	if p.Message == "" {
		return false
	}
	place := *n
	place.Column += utf8.RuneCountInString(n.Value[:at])
	d.Report(&place, path, p.Message, p.Hint)
	return true
}

// mergeSources returns the mappings that a << key refers to.
func (d *Document) mergeSources(v *yaml.Node, path string) []*yaml.Node {
	sources := []*yaml.Node{v}
	if v.Kind == yaml.SequenceNode {
		sources = v.Content
	}
	for _, s := range sources {
		if s.Kind != yaml.MappingNode {
			d.Report(s, path, "<< expects a mapping, found "+KindOf(s), "")
			return nil
		}
	}
	return sources
}

// empty replaces a node that cannot be resolved.
func empty(n *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line, Column: n.Column}
}
