// Package strictyaml reads one YAML document into Go values and reports every mistake in
// it with line, column, path and hint. It checks the types of values; package config adds
// the rules for their content.
//
// It is strict where YAML libraries are not: unknown and duplicate keys, wrong types and
// second documents are problems, and a problem does not end the decoding, so that all of
// them are reported together. It expands ${NAME} in values, and resolves aliases and merge
// keys before the decoding, so that defaults can be merged node by node.
//
// Start reading with [Document.Read], which returns the resolved nodes, and
// [Document.Decode].
package strictyaml

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Options configure how a document is read.
type Options struct {
	File      string                      // the name that problems carry
	Getenv    func(string) (string, bool) // os.LookupEnv except in tests
	Kind      func(path string) TextKind  // what the text at a path may contain; nil: all are Identifier
	Ignore    func(key string) bool       // whether a key of the root is ignored; nil: none is
	OtherKeys map[string]string           // hints for keys of other programs
	Root      string                      // the key that the document must have, for the problem if it is not a mapping
	Empty     string                      // the hint for an empty document
}

// A Document is one file while it is read. Its methods collect problems instead of
// returning errors. It is not safe for concurrent use.
type Document struct {
	options  Options
	problems Problems
	warnings Problems
	copied   int // nodes made while aliases were resolved

	inherited map[*yaml.Node]string // nodes of defaults, with their keys: their path there
	expanded  map[*yaml.Node]bool   // scalars whose text came from the environment: they may have any type
	broken    map[*yaml.Node]bool   // scalars whose text is unknown; reported already
	bare      map[*yaml.Node]string // scalars with a variable such as $HOME, or $( of a command, which is not expanded
	reported  map[string]bool       // paths that have problems
	blocks    [][]string            // the keys of the blocks that are being decoded, the outermost first
}

// New returns a document without content.
func New(o Options) *Document {
	if o.Kind == nil {
		o.Kind = func(string) TextKind { return Identifier }
	}
	if o.Ignore == nil {
		o.Ignore = func(string) bool { return false }
	}
	return &Document{
		options: o, inherited: make(map[*yaml.Node]string), expanded: make(map[*yaml.Node]bool),
		broken: make(map[*yaml.Node]bool), bare: make(map[*yaml.Node]string), reported: make(map[string]bool),
	}
}

// Report adds a problem at n. A problem of an inherited node is reported where the
// defaults are, and only once.
func (d *Document) Report(n *yaml.Node, path, message, hint string) {
	d.reported[path] = true
	d.problems = append(d.problems, d.problemAt(n, path, message, hint))
}

// Warn adds a warning at n, for a value that is valid but probably a mistake. The file remains
// valid.
func (d *Document) Warn(n *yaml.Node, path, message, hint string) {
	d.warnings = append(d.warnings, d.problemAt(n, path, message, hint))
}

func (d *Document) problemAt(n *yaml.Node, path, message, hint string) Problem {
	if at, ok := d.inherited[n]; ok {
		path = at
	}
	return Problem{File: d.options.File, Line: n.Line, Column: n.Column, Path: path, Message: message, Hint: hint}
}

// ReportField adds a problem of the field below path, such as sink.file, at the field or
// as near to it as the document goes. A field that has a problem already, or holds one,
// gets no second one: a mistake is reported once.
func (d *Document) ReportField(n *yaml.Node, path, field, message, hint string) {
	at := Join(path, field)
	for reported := range d.reported {
		if reported == at || strings.HasPrefix(reported, at+".") || strings.HasPrefix(reported, at+"[") {
			return
		}
	}
	d.Report(Find(n, field), at, message, hint)
}

// add adds problems of the whole file.
func (d *Document) add(problems ...Problem) {
	for _, p := range problems {
		p.File = d.options.File
		d.problems = append(d.problems, p)
	}
}

// Reported reports whether the value at path has a problem.
func (d *Document) Reported(path string) bool { return d.reported[path] }

// Inherit marks n and all nodes below it as part of the defaults at path, so that a
// problem of a default is reported there and not at each value that inherits it.
func (d *Document) Inherit(n *yaml.Node, path string) {
	d.inherited[n] = path
	for key, value := range Pairs(n) {
		at := Join(path, key.Value)
		d.inherited[key] = at
		d.Inherit(value, at)
	}
	if n.Kind == yaml.SequenceNode {
		for i, e := range n.Content {
			d.Inherit(e, path+"["+strconv.Itoa(i)+"]")
		}
	}
}

// Problems returns what was reported so far, in the order of the file, each once.
func (d *Document) Problems() Problems { return sorted(d.problems) }

// Warnings returns the warnings so far, in the order of the file, each once.
func (d *Document) Warnings() Problems { return sorted(d.warnings) }

func sorted(problems Problems) Problems {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.CompactFunc(problems, func(a, b Problem) bool {
		return a.Line == b.Line && a.Column == b.Column && a.Message == b.Message
	})
}

// Read parses the one YAML document and returns its root, a mapping, with aliases, merge
// keys and variables resolved; nil if there is none.
func (d *Document) Read(data []byte) *yaml.Node {
	whole := func(line int, message, hint string) *yaml.Node {
		d.add(Problem{Line: line, Column: 1, Message: message, Hint: hint})
		return nil
	}
	if bad := characterProblems(data); bad != nil {
		d.add(bad...)
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return whole(1, "the file is empty", d.options.Empty)
	case err != nil:
		d.add(syntaxProblem(data, err))
		return nil
	}
	switch err := dec.Decode(&more); {
	case err == nil:
		return whole(max(more.Line, 1), "a second YAML document begins here", "one file holds one document: remove the --- line and what follows")
	case !errors.Is(err, io.EOF):
		d.add(syntaxProblem(data, err))
		return nil
	}
	root := doc.Content[0]
	switch {
	case root.Kind == yaml.ScalarNode && root.Tag == "!!null":
		return whole(1, "the file is empty", d.options.Empty)
	case root.Kind != yaml.MappingNode:
		hint := ""
		if encryptedText.MatchString(root.Value) {
			hint = decryptHint
		}
		d.Report(root, "", "expected a mapping with the key "+d.options.Root+", found "+KindOf(root), hint)
		return nil
	}
	return d.resolve(root, "", 0, nil)
}
