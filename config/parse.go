package config

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"gopkg.in/yaml.v3"

	"kcagent/config/filewatch"
	"kcagent/config/strictyaml"
	"kcagent/limits"
)

// Problem is one mistake in the file, with its place.
type Problem = strictyaml.Problem

// Problems are all mistakes of a file, in the order of the file. As an error they print
// one after the other.
type Problems = strictyaml.Problems

// Load reads and parses the file at path. It returns the configuration and the SHA-256
// of the content, in hex, or the problems. getenv is os.LookupEnv except in tests.
func Load(path string, getenv func(string) (string, bool)) (*Config, string, Problems) {
	data, _, err := filewatch.ReadFile(path)
	if err != nil {
		return nil, "", Problems{readProblem(path, err)}
	}
	c, problems := Parse(path, data, getenv)
	return c, filewatch.Sum(data), problems
}

// readProblem says why the file at path could not be read.
func readProblem(path string, err error) Problem {
	p := Problem{File: path, Message: err.Error()}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		p.Message = pe.Op + " file: " + pe.Err.Error()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Hint = "create the file, or correct the path; to run no consumers, write `consumers: []` into it"
	case errors.Is(err, fs.ErrPermission):
		p.Hint = "let the user that runs kcagent read the file and enter its folders"
	}
	return p
}

// Parse turns the content of a file into a normalised configuration, or returns every
// problem in it, in the order of the file; never both. file is only the name that
// problems carry.
func Parse(file string, data []byte, getenv func(string) (string, bool)) (*Config, Problems) {
	p := newParser(file, getenv)
	root := p.doc.Read(data)
	if root == nil {
		return nil, p.doc.Problems()
	}
	c := p.config(root)
	if problems := p.doc.Problems(); len(problems) > 0 {
		return nil, problems
	}
	c.Warnings = p.doc.Warnings()
	return c, nil
}

// Locate returns a problem with a message about the file as it is now, placed at path,
// such as consumers[1].topics, or as near to it as the file goes.
func Locate(file, path, message string) Problem { return NewLocator(file).Locate(path, message, "") }

// A Locator places messages about one file.
type Locator struct {
	file string
	root *yaml.Node // nil if the file cannot be read
}

// NewLocator reads the file as it is now.
func NewLocator(file string) *Locator {
	l := &Locator{file: file}
	if data, _, err := filewatch.ReadFile(file); err == nil {
		l.root = newParser(file, func(string) (string, bool) { return "", true }).doc.Read(data)
	}
	return l
}

// Locate returns a problem at path, such as consumers[1].topics, or as near to it as the
// file goes.
func (l *Locator) Locate(path, message, hint string) Problem {
	p := Problem{File: l.file, Path: path, Message: message, Hint: hint}
	if l.root != nil {
		n := strictyaml.Find(l.root, path)
		p.Line, p.Column = n.Line, n.Column
	}
	return p
}

const emptyHint = "to run no consumers, write `consumers: []`"

// A parser checks one document. Its rules are in normalise.go, validate.go, sasl.go and
// conflicts.go.
type parser struct{ doc *strictyaml.Document }

func newParser(file string, getenv func(string) (string, bool)) *parser {
	return &parser{strictyaml.New(strictyaml.Options{
		File: file, Getenv: getenv, Kind: textKind, Ignore: isExtension, OtherKeys: otherKeys, Root: "consumers", Empty: emptyHint,
	})}
}

// isExtension reports whether a key of the root is ignored. Such a key holds anchors.
func isExtension(key string) bool { return strings.HasPrefix(key, "x-") }

// otherKeys are keys that users of other programs try, with what to write instead.
var otherKeys = map[string]string{
	"enabled":           "use state: running, paused or stopped",
	"tls":               "move it to an entry of clusters, and set cluster to the name of the entry",
	"sasl":              "move it to an entry of clusters, and set cluster to the name of the entry",
	"bootstrap_servers": "use brokers",
	"bootstrap.servers": "use brokers",
	"group_id":          "use group",
	"group.id":          "use group",
	"auto_offset_reset": "use start: earliest or latest",
	"auto.offset.reset": "use start: earliest or latest",
	"output":            "use sink",
	"access_key":        "use access_key_file: credentials are in files only",
	"access_key_id":     "use access_key_file: credentials are in files only",
	"secret_key":        "use secret_key_file: credentials are in files only",
	"secret_access_key": "use secret_key_file: credentials are in files only",
	"bucket":            "write it in url: s3://bucket/prefix",
	"prefix":            "write it in url: s3://bucket/prefix",
	"keep":              "remove it: only files have it; a lifecycle rule of the bucket deletes objects",
	"keep_for":          "remove it: only files have it; a lifecycle rule of the bucket deletes objects",
}

// textKind returns what the text at a path may contain.
func textKind(path string) strictyaml.TextKind {
	switch key := path[strings.LastIndexByte(path, '.')+1:]; {
	case key == "password" || key == "client_secret":
		return strictyaml.Secret
	case key == "username" || strings.Contains(path, ".extensions."):
		return strictyaml.Free
	case key == "topics_regex":
		return strictyaml.Pattern
	case key == "path" || key == "spool" || strings.HasSuffix(key, "_file"):
		return strictyaml.Path
	}
	return strictyaml.Identifier
}

// config decodes, normalises and checks the whole file.
func (p *parser) config(root *yaml.Node) *Config {
	c := &Config{Limits: Limits{MaxConsumers: 2000, MaxRemovedPercent: 100, MaxBatch: limits.DefaultMaxBatch}}
	var defaults *yaml.Node
	for key, value := range strictyaml.Pairs(root) {
		switch key.Value {
		case "clusters":
			p.doc.Decode(value, "clusters", &c.Clusters)
		case "limits":
			p.doc.Decode(value, "limits", &c.Limits)
		case "log_level":
			p.doc.Decode(value, "log_level", &c.LogLevel)
		case "defaults":
			defaults = p.defaults(value)
		case "consumers":
		default:
			p.doc.UnknownKey(key, "", topKeys)
		}
	}
	p.clusters(root, c)
	p.limits(root, c)
	p.consumers(root, defaults, c)
	return c
}

var topKeys = []string{"clusters", "defaults", "limits", "log_level", "consumers"}

// consumers decodes the list, each entry filled from the defaults.
func (p *parser) consumers(root, defaults *yaml.Node, c *Config) {
	list := strictyaml.Child(root, "consumers")
	switch {
	case list == nil:
		p.doc.Report(root, "consumers", "missing: the file lists no consumers", emptyHint)
		return
	case list.Kind != yaml.SequenceNode:
		p.doc.Report(list, "consumers", "expected a list, found "+strictyaml.KindOf(list), "write `- name: …` for each consumer, or [] for none")
		return
	}
	entries := make([]entry, 0, len(list.Content))
	for i, n := range list.Content {
		path := fmt.Sprintf("consumers[%d]", i)
		if n.Kind != yaml.MappingNode {
			p.doc.Report(n, path, "expected a mapping, found "+strictyaml.KindOf(n), "write `- name: …`")
			continue
		}
		e := entry{node: inherit(n, defaults), path: path}
		p.doc.Decode(e.node, path, &e.consumer)
		normalise(&e.consumer, c)
		p.check(&e, c)
		entries = append(entries, e)
		c.Consumers = append(c.Consumers, e.consumer)
	}
	if c.Consumers == nil {
		c.Consumers = []Consumer{}
	}
	p.checkConflicts(entries)
	p.warnSharedGroups(entries)
	if n := len(entries); c.Limits.MaxConsumers > 0 && n > c.Limits.MaxConsumers {
		p.doc.Report(list, "consumers", fmt.Sprintf("%d consumers exceed limits.max_consumers, %d", n, c.Limits.MaxConsumers),
			"raise limits.max_consumers if this is intended")
	}
}

// An entry is a consumer while it is checked.
type entry struct {
	consumer Consumer
	node     *yaml.Node // with what it inherits
	path     string
}
