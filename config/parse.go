package config

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"kcagent/limits"
)

// Load reads and parses the file at path. It returns the configuration and the
// SHA-256 of the content, in hex, or the problems. getenv is os.LookupEnv but
// in tests.
func Load(path string, getenv func(string) (string, bool)) (*Config, string, Problems) {
	data, _, err := readFile(path)
	if err != nil {
		return nil, "", Problems{readProblem(path, err)}
	}
	sum := sha256.Sum256(data)
	c, problems := Parse(path, data, getenv)
	return c, hex.EncodeToString(sum[:]), problems
}

// Parse turns the content of a file into a normalised configuration, or tells
// every problem in it, in the order of the file; never both. file is only the
// name that problems carry.
func Parse(file string, data []byte, getenv func(string) (string, bool)) (*Config, Problems) {
	p := newParser(file, getenv)
	root := p.document(data)
	if root == nil {
		return nil, p.sorted()
	}
	c := p.config(root)
	if len(p.problems) > 0 {
		return nil, p.sorted()
	}
	return c, nil
}

// Locate places a message about the file as it is now at path, such as
// consumers[1].topics, or as near to it as the file goes.
func Locate(file, path, message string) Problem { return NewLocator(file).Locate(path, message, "") }

// A Locator places messages about a file.
type Locator struct {
	file string
	root *yaml.Node // nil if the file cannot be read
}

// NewLocator reads the file as it is now.
func NewLocator(file string) *Locator {
	l := &Locator{file: file}
	if data, _, err := readFile(file); err == nil {
		l.root = newParser(file, func(string) (string, bool) { return "", true }).document(data)
	}
	return l
}

// Locate places a message at path, such as consumers[1].topics, or as near to it
// as the file goes.
func (l *Locator) Locate(path, message, hint string) Problem {
	p := Problem{File: l.file, Path: path, Message: message, Hint: hint}
	if l.root != nil {
		n := find(l.root, path)
		p.Line, p.Column = n.Line, n.Column
	}
	return p
}

// A parser is the state of one Parse.
type parser struct {
	file     string
	getenv   func(string) (string, bool)
	problems Problems
	copied   int // nodes made while aliases were resolved

	inherited map[*yaml.Node]string // nodes of defaults, keys too: their path there
	flexible  map[*yaml.Node]bool   // scalars whose text came from the environment: of any type
	broken    map[*yaml.Node]bool   // scalars whose text is not known; told already
	bare      map[*yaml.Node]string // scalars with a variable such as $HOME, which is not expanded
	told      map[string]bool       // paths that have problems
}

func newParser(file string, getenv func(string) (string, bool)) *parser {
	return &parser{
		file: file, getenv: getenv, inherited: make(map[*yaml.Node]string), flexible: make(map[*yaml.Node]bool),
		broken: make(map[*yaml.Node]bool), bare: make(map[*yaml.Node]string), told: make(map[string]bool),
	}
}

// report adds a problem at n. What was inherited from defaults is reported
// there, and only once.
func (p *parser) report(n *yaml.Node, path, message, hint string) {
	p.told[path] = true
	if at, ok := p.inherited[n]; ok {
		path = at
	}
	p.problems = append(p.problems, Problem{
		File: p.file, Line: n.Line, Column: n.Column, Path: path, Message: message, Hint: hint,
	})
}

func (p *parser) sorted() Problems {
	slices.SortStableFunc(p.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.CompactFunc(p.problems, func(a, b Problem) bool {
		return a.Line == b.Line && a.Column == b.Column && a.Message == b.Message
	})
}

const emptyHint = "to run no consumers at all, write `consumers: []`"

// document reads the one YAML document, with aliases, merges and variables
// resolved; nil if there is none to go on with.
func (p *parser) document(data []byte) *yaml.Node {
	whole := func(line int, message, hint string) *yaml.Node {
		p.problems = append(p.problems, Problem{File: p.file, Line: line, Column: 1, Message: message, Hint: hint})
		return nil
	}
	if i := invalidUTF8(data); i >= 0 {
		return whole(1+bytes.Count(data[:i], []byte("\n")), "the file is not UTF-8 text", "save it as UTF-8")
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return whole(1, "the file is empty", emptyHint)
	case err != nil:
		line, message, hint := syntaxError(data, err)
		if bytes.Contains(data, []byte("${")) && strings.Contains(message, "expected ','") {
			hint = "inside { } or [ ] a value with ${NAME} must stand in quotes"
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
		return whole(1, "the file is empty", emptyHint)
	case root.Kind != yaml.MappingNode:
		p.report(root, "", "expected a mapping with the key consumers, found "+kindOf(root), "")
		return nil
	}
	return p.resolve(root, "", 0, nil)
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
	// ofParser are those in which the library counts lines from zero.
	ofParser      = regexp.MustCompile(`^did not find expected (key|'-' indicator|',' or '[\]}]'|node content|<document start>)`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// syntaxError takes the place out of an error of the YAML library.
func syntaxError(data []byte, err error) (line int, message, hint string) {
	m := yamlError.FindStringSubmatch(err.Error())
	if m == nil {
		return 1, "not valid YAML: " + err.Error(), ""
	}
	line, _ = strconv.Atoi(m[1])
	if a := unknownAnchor.FindStringSubmatch(m[2]); a != nil {
		// It is not named: it may be a password that begins with an asterisk.
		return aliasLine(data, a[1]), "not valid YAML: a text that begins with * is an alias, and there is no anchor of its name",
			"put the text in quotes, if it is one"
	}
	if m[1] != "" && ofParser.MatchString(m[2]) {
		line = min(line+1, 1+bytes.Count(bytes.TrimRight(data, "\n"), []byte("\n")))
	}
	return max(line, 1), "not valid YAML: " + m[2], ""
}

// aliasLine is where an alias stands first; the library does not say. It is 1 if
// that cannot be found.
func aliasLine(data []byte, name string) int {
	alias := regexp.MustCompile(`(?m)^(?:[^#\n]*[\s\[{,:])?\*` + regexp.QuoteMeta(name) + `(?:$|[^\pL\pN_-])`)
	at := alias.FindIndex(data)
	if at == nil {
		return 1
	}
	return 1 + bytes.Count(data[:at[0]], []byte("\n"))
}

// config decodes, normalises and checks the whole file.
func (p *parser) config(root *yaml.Node) *Config {
	c := &Config{Limits: Limits{MaxConsumers: 2000, MaxRemovedPercent: 100, MaxBatch: limits.DefaultMaxBatch}}
	var defaults *yaml.Node
	for key, value := range pairs(root) {
		switch key.Value {
		case "clusters":
			p.decode(value, "clusters", reflect.ValueOf(&c.Clusters).Elem())
		case "limits":
			p.decode(value, "limits", reflect.ValueOf(&c.Limits).Elem())
		case "defaults":
			defaults = p.defaults(value)
		case "consumers":
		default:
			p.unknown(key, "", topKeys)
		}
	}
	p.clusters(root, c)
	p.limits(root, c)
	p.consumers(root, defaults, c)
	return c
}

var topKeys = []string{"clusters", "defaults", "limits", "consumers"}

// consumers decodes the list, each entry filled from the defaults.
func (p *parser) consumers(root, defaults *yaml.Node, c *Config) {
	list := child(root, "consumers")
	switch {
	case list == nil:
		p.report(root, "consumers", "missing: the file names no consumers", emptyHint)
		return
	case list.Kind != yaml.SequenceNode:
		p.report(list, "consumers", "expected a list, found "+kindOf(list), "write `- name: …` for each consumer, or [] for none")
		return
	}
	entries := make([]entry, 0, len(list.Content))
	for i, n := range list.Content {
		path := fmt.Sprintf("consumers[%d]", i)
		if n.Kind != yaml.MappingNode {
			p.report(n, path, "expected a mapping, found "+kindOf(n), "write `- name: …`")
			continue
		}
		e := entry{node: inherit(n, defaults), path: path}
		p.decode(e.node, path, reflect.ValueOf(&e.consumer).Elem())
		normalise(&e.consumer, c)
		p.check(&e, c)
		entries = append(entries, e)
		c.Consumers = append(c.Consumers, e.consumer)
	}
	if c.Consumers == nil {
		c.Consumers = []Consumer{}
	}
	p.across(entries)
	if n := len(entries); c.Limits.MaxConsumers > 0 && n > c.Limits.MaxConsumers {
		p.report(list, "consumers", fmt.Sprintf("%d consumers are more than limits.max_consumers, %d", n, c.Limits.MaxConsumers),
			"raise limits.max_consumers if this is meant")
	}
}

// An entry is a consumer on its way through the checks.
type entry struct {
	consumer Consumer
	node     *yaml.Node // with what it inherits
	path     string
}
