package strictyaml

import (
	"iter"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Pairs yields the keys and values of a mapping.
func Pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
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

// Child returns the value of a key of a mapping, nil if there is none.
func Child(n *yaml.Node, key string) *yaml.Node {
	if n == nil {
		return nil
	}
	for k, v := range Pairs(n) {
		if k.Value == key {
			return v
		}
	}
	return nil
}

// Find returns the node at a path such as consumers[1].sink.file, or the last one on the
// way to it that exists.
func Find(n *yaml.Node, path string) *yaml.Node {
	for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		next := Child(n, step)
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

// Join appends a key to a path.
func Join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// KindOf names the kind of a node, for people. It never shows the text, which may be a
// secret.
func KindOf(n *yaml.Node) string {
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

// Without returns a copy of a mapping without a key.
func Without(n *yaml.Node, key string) *yaml.Node {
	c := *n
	c.Content = nil
	for k, v := range Pairs(n) {
		if k.Value != key {
			c.Content = append(c.Content, k, v)
		}
	}
	return &c
}

// Fill returns a copy of the mapping own with the keys of from that it lacks, nested
// mappings included, except the keys in leave. It shares the nodes of from, so that
// [Document.Inherit] recognises them.
func Fill(own, from *yaml.Node, leave map[string]bool) *yaml.Node {
	c := *own
	c.Content = append([]*yaml.Node(nil), own.Content...)
	for k, v := range Pairs(from) {
		mine := Child(own, k.Value)
		switch {
		case mine == nil && !leave[k.Value]:
			c.Content = append(c.Content, k, v)
		case mine != nil && !leave[k.Value] && mine.Kind == yaml.MappingNode && v.Kind == yaml.MappingNode:
			filled := Fill(mine, v, nil)
			for i := 0; i+1 < len(c.Content); i += 2 {
				if c.Content[i].Value == k.Value {
					c.Content[i+1] = filled
				}
			}
		}
	}
	return &c
}
