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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Options configure how a document is read.
type Options struct {
	File   string                      // the name that problems carry
	Getenv func(string) (string, bool) // os.LookupEnv except in tests
	Secret func(path string) bool      // whether the value at a path is a secret; nil: none is
	Root   string                      // the key that the document must have, for the problem if it is not a mapping
	Empty  string                      // the hint for an empty document
}

// A Document is one file while it is read. Its methods collect problems instead of
// returning errors. It is not safe for concurrent use.
type Document struct {
	options  Options
	problems Problems
	copied   int // nodes made while aliases were resolved

	inherited map[*yaml.Node]string // nodes of defaults, with their keys: their path there
	expanded  map[*yaml.Node]bool   // scalars whose text came from the environment: they may have any type
	broken    map[*yaml.Node]bool   // scalars whose text is unknown; reported already
	bare      map[*yaml.Node]string // scalars with a variable such as $HOME, which is not expanded
	reported  map[string]bool       // paths that have problems
}

// New returns a document without content.
func New(o Options) *Document {
	if o.Secret == nil {
		o.Secret = func(string) bool { return false }
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
	if at, ok := d.inherited[n]; ok {
		path = at
	}
	d.problems = append(d.problems, Problem{
		File: d.options.File, Line: n.Line, Column: n.Column, Path: path, Message: message, Hint: hint,
	})
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
func (d *Document) Problems() Problems {
	slices.SortStableFunc(d.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.CompactFunc(d.problems, func(a, b Problem) bool {
		return a.Line == b.Line && a.Column == b.Column && a.Message == b.Message
	})
}

// bracesInText matches braces that touch other text, as in ${NAME}, {topic}.log and
// /data/{topic}. YAML reads them as a mapping if the value has no quotes.
var bracesInText = regexp.MustCompile(`[^\s{\["',:]\{|\}[^\s,}\]]`)

// Read parses the one YAML document and returns its root, a mapping, with aliases, merge
// keys and variables resolved; nil if there is none.
func (d *Document) Read(data []byte) *yaml.Node {
	whole := func(line int, message, hint string) *yaml.Node {
		d.problems = append(d.problems, Problem{File: d.options.File, Line: line, Column: 1, Message: message, Hint: hint})
		return nil
	}
	if i := invalidUTF8(data); i >= 0 {
		return whole(1+bytes.Count(data[:i], []byte("\n")), "the file is not UTF-8 text", "save it as UTF-8")
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return whole(1, "the file is empty", d.options.Empty)
	case err != nil:
		line, message, hint := syntaxError(data, err)
		if bracesInText.Match(data) && strings.Contains(message, "expected ','") {
			hint = "inside { } or [ ] quote a value with ${NAME} or {topic}"
		}
		return whole(line, message, hint)
	}
	switch err := dec.Decode(&more); {
	case err == nil:
		return whole(max(more.Line, 1), "a second YAML document begins here", "one file holds one document: remove the --- line and what follows")
	case !errors.Is(err, io.EOF):
		return whole(syntaxError(data, err))
	}
	root := doc.Content[0]
	switch {
	case root.Kind == yaml.ScalarNode && root.Tag == "!!null":
		return whole(1, "the file is empty", d.options.Empty)
	case root.Kind != yaml.MappingNode:
		d.Report(root, "", "expected a mapping with the key "+d.options.Root+", found "+KindOf(root), "")
		return nil
	}
	return d.resolve(root, "", 0, nil)
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return -1
}

var (
	yamlError = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`)
	// countsFromZero matches the errors in which the library counts lines from zero.
	countsFromZero = regexp.MustCompile(`^did not find expected (key|'-' indicator|',' or '[\]}]'|node content|<document start>)`)
	unknownAnchor  = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// syntaxError takes the place out of an error of the YAML library.
func syntaxError(data []byte, err error) (line int, message, hint string) {
	m := yamlError.FindStringSubmatch(err.Error())
	if m == nil {
		return 1, "invalid YAML: " + err.Error(), ""
	}
	line, _ = strconv.Atoi(m[1])
	if a := unknownAnchor.FindStringSubmatch(m[2]); a != nil {
		// The anchor is not named: it may be a password that begins with an asterisk.
		return aliasLine(data, a[1]), "invalid YAML: a text that begins with * is an alias, and its anchor does not exist",
			"quote the text if it is not an alias"
	}
	if m[1] != "" && countsFromZero.MatchString(m[2]) {
		line = min(line+1, 1+bytes.Count(bytes.TrimRight(data, "\n"), []byte("\n")))
	}
	return max(line, 1), "invalid YAML: " + m[2], ""
}

// aliasLine returns the line of the first use of an alias, which the library does not
// report; 1 if it is not found.
func aliasLine(data []byte, name string) int {
	alias := regexp.MustCompile(`(?m)^(?:[^#\n]*[\s\[{,:])?\*` + regexp.QuoteMeta(name) + `(?:$|[^\pL\pN_-])`)
	at := alias.FindIndex(data)
	if at == nil {
		return 1
	}
	return 1 + bytes.Count(data[:at[0]], []byte("\n"))
}
