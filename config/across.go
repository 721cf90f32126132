package config

import (
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"kcagent/sink"
)

// across applies the rules that concern two consumers: names are unique, no two
// are one static member, and no file has two writers.
func (p *parser) across(entries []entry) {
	names := make(map[string]*entry)
	members := make(map[string]*entry) // static ones
	taken := claims{files: make(map[string]*entry), folders: make(map[string]*entry)}
	for i := range entries {
		e := &entries[i]
		if first := names[e.consumer.Name]; first != nil && e.consumer.Name != "" {
			p.fault(e.node, e.path, "name", "another consumer is named "+strconv.Quote(e.consumer.Name)+", too",
				fmt.Sprintf("the first is in line %d", first.node.Line))
		} else {
			names[e.consumer.Name] = e
		}
		if c := e.consumer; c.InstanceID != "" {
			id := strings.Join(append([]string{c.Group, c.InstanceID}, c.Cluster.Brokers...), "\n")
			if first := members[id]; first != nil {
				p.fault(e.node, e.path, "instance_id", fmt.Sprintf("consumers %q and %q would be one member of group %s", first.consumer.Name, c.Name, c.Group),
					"give one of them another instance_id, or a group of its own")
			}
			members[id] = e
		}
		f := e.consumer.Sink.File
		if f == nil || f.Path == "" {
			continue
		}
		if other := taken.below(e); other != nil {
			p.fault(e.node, e.path, "sink.file.path",
				fmt.Sprintf("this path and %s, of consumer %q, exclude each other: one would be a folder", other.consumer.Sink.File.Path, other.consumer.Name),
				fmt.Sprintf("it stands in line %d", other.node.Line))
		} else if other := taken.add(e); other != nil {
			p.fault(e.node, e.path, "sink.file.path",
				"consumer "+strconv.Quote(other.consumer.Name)+" may write the same file, "+other.consumer.Sink.File.Path,
				fmt.Sprintf("it stands in line %d; give each consumer a file of its own, such as with {name}", other.node.Line))
		}
	}
}

// claims are the files that consumers may write. A thousand consumers are a
// million pairs, so almost all of them must be told apart by a look.
type claims struct {
	files    map[string]*entry // by the whole path
	folders  map[string]*entry // who needs it for a file below it
	literals []target
	patterns []target // with placeholders left
}

// A target is one path that an entry may write, its topics filled in where
// they are known.
type target struct {
	*entry
	path       string
	head, tail string // before the first and after the last placeholder
}

// add notes what e may write, or returns who may write it already.
func (c *claims) add(e *entry) (other *entry) {
	targets := targetsOf(e)
	for _, t := range targets {
		if other := c.holder(t); other != nil {
			return other
		}
	}
	for _, t := range targets {
		if t.head == t.path {
			c.files[t.path] = e
			for folder := range above(t.path) {
				c.folders[folder] = e
			}
			c.literals = append(c.literals, t)
		} else {
			c.patterns = append(c.patterns, t)
		}
	}
	return nil
}

// below finds who writes a file where e needs a folder, or needs a folder where e
// writes one. Paths with placeholders that are still open show it when they run.
func (c *claims) below(e *entry) (other *entry) {
	for _, t := range targetsOf(e) {
		if other := c.folders[t.path]; other != nil {
			return other
		}
		for folder := range above(t.path) {
			if other := c.files[folder]; other != nil {
				return other
			}
		}
	}
	return nil
}

// above yields the folders on the way to a path.
func above(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for folder := filepath.Dir(path); folder != path && yield(folder); folder = filepath.Dir(folder) {
			path = folder
		}
	}
}

// sideFiles are the suffixes of what lies beside a data file.
var sideFiles = []string{".checkpoint", ".checkpoint.tmp", ".lock", ".next"}

// holder finds who may write t, or a file beside it.
func (c *claims) holder(t target) *entry {
	others := c.patterns
	if t.head == t.path {
		if other := c.files[t.path]; other != nil {
			return other
		}
		for _, suffix := range sideFiles {
			if other := c.files[t.path+suffix]; other != nil {
				return other
			}
			if main, ok := strings.CutSuffix(t.path, suffix); ok && c.files[main] != nil {
				return c.files[main]
			}
		}
	} else {
		others = slices.Concat(c.patterns, c.literals)
	}
	for _, o := range others {
		if t.meets(o) {
			return o.entry
		}
	}
	return nil
}

func (t target) meets(o target) bool {
	return (strings.HasPrefix(t.head, o.head) || strings.HasPrefix(o.head, t.head)) &&
		(strings.HasSuffix(t.tail, o.tail) || strings.HasSuffix(o.tail, t.tail)) &&
		sink.Overlap(t.path, nil, o.path, nil)
}

func targetsOf(e *entry) []target {
	path := absolute(e.consumer.Sink.File.Path)
	paths := []string{path}
	if topics := e.consumer.Topics; len(topics) > 0 && strings.Contains(path, "{topic}") {
		paths = nil
		for _, topic := range topics {
			paths = append(paths, strings.ReplaceAll(path, "{topic}", topic))
		}
	}
	targets := make([]target, len(paths))
	for i, p := range paths {
		targets[i] = target{entry: e, path: p, head: p, tail: p}
		if open := strings.IndexByte(p, '{'); open >= 0 {
			targets[i].head, targets[i].tail = p[:open], p[strings.LastIndexByte(p, '}')+1:]
		}
	}
	return targets
}

// absolute makes two spellings of one path equal. Links are not followed: what
// they lead to may change, and the lock on the file guards it.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
