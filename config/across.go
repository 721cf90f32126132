package config

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"kcagent/sink"
)

// across applies the rules that concern two consumers: names are unique, and
// no file has two writers.
func (p *parser) across(entries []entry) {
	names := make(map[string]*entry)
	files := make(map[string]*entry) // by the whole path
	var patterns []*entry            // with placeholders; few files have many of them
	for i := range entries {
		e := &entries[i]
		if first := names[e.consumer.Name]; first != nil && e.consumer.Name != "" {
			p.fault(e.node, e.path, "name", "another consumer is named "+strconv.Quote(e.consumer.Name)+", too",
				fmt.Sprintf("the first is in line %d", first.node.Line))
		} else {
			names[e.consumer.Name] = e
		}
		f := e.consumer.Sink.File
		if f == nil || f.Path == "" {
			continue
		}
		other := clash(e, entries[:i], files, patterns)
		if other != nil {
			p.fault(e.node, e.path, "sink.file.path",
				"consumer "+strconv.Quote(other.consumer.Name)+" may write the same file, "+other.consumer.Sink.File.Path,
				fmt.Sprintf("it stands in line %d; give each consumer a file of its own, such as with {name}", other.node.Line))
			continue
		}
		if isPattern(f.Path) {
			patterns = append(patterns, e)
		}
		files[absolute(f.Path)] = e
	}
}

// sideFiles are the suffixes of what lies beside a data file.
var sideFiles = []string{".checkpoint", ".lock"}

// clash finds an earlier consumer that may write e's file, or a file beside it.
func clash(e *entry, earlier []entry, files map[string]*entry, patterns []*entry) *entry {
	path := absolute(e.consumer.Sink.File.Path)
	if other := files[path]; other != nil {
		return other
	}
	for _, suffix := range sideFiles {
		if other := files[path+suffix]; other != nil {
			return other
		}
		if main, ok := strings.CutSuffix(path, suffix); ok && files[main] != nil {
			return files[main]
		}
	}
	for _, other := range patterns {
		if overlap(e, other) {
			return other
		}
	}
	if isPattern(path) {
		for i := range earlier {
			if other := &earlier[i]; other.consumer.Sink.File != nil && overlap(e, other) {
				return other
			}
		}
	}
	return nil
}

func isPattern(path string) bool { return strings.Contains(path, "{") }

// absolute makes two spellings of one path equal. Links are not followed: what
// they lead to may change, and the lock on the file guards it.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func overlap(a, b *entry) bool {
	return sink.Overlap(absolute(a.consumer.Sink.File.Path), a.consumer.Topics, absolute(b.consumer.Sink.File.Path), b.consumer.Topics)
}
