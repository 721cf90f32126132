package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestTroubleshootingIsWhole: docs/troubleshooting.md has a row for each message that a
// user can see, and none for a message that is gone. Messages are found in the source,
// see collect; those that no user sees are in unseen.
func TestTroubleshootingIsWhole(t *testing.T) {
	rows, foreign := documented(t)
	seen := make(map[string]bool)
	for _, m := range messages(t) {
		seen[m.key()] = true
		if why := unseen[m.key()]; why == "" && !rows[m.key()] {
			t.Errorf("%s: add a row to the section of docs/troubleshooting.md that fits, or the message to unseen with the reason why no user sees it:\n| `%s` | CAUSE | ACTION |",
				m.at, m.text)
		}
	}
	for key := range rows {
		if !seen[key] && !foreign[key] {
			t.Errorf("docs/troubleshooting.md has a row for %q, which no source file has: remove it, or quote the message as it is", key)
		}
	}
	for key := range unseen {
		if !seen[key] || rows[key] {
			t.Errorf("unseen lists %q, which no source file has or which has a row: remove it", key)
		}
	}
}

// A message is a text in the source, with … for each value.
type message struct{ text, at string }

// key is what is compared: the text without the values around it.
func (m message) key() string {
	text := strings.ReplaceAll(m.text, "`", "")
	return strings.Trim(strings.Join(strings.Fields(text), " "), " …:;,.()\"'[]")
}

// documented returns the keys of all messages in the first column of the tables, and of
// those that Kafka, libraries and the system make.
func documented(t *testing.T) (rows, foreign map[string]bool) {
	rows, foreign = make(map[string]bool), make(map[string]bool)
	section := ""
	for line := range strings.Lines(read(t, "docs/troubleshooting.md")) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = strings.TrimSpace(title)
		}
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		if len(cells) != 3 {
			t.Errorf("a row of docs/troubleshooting.md has %d columns instead of 3: %s", len(cells), line)
		}
		for text := range strings.SplitSeq(strings.TrimPrefix(cells[0], "| "), "<br>") {
			key := message{text: text}.key()
			rows[key] = true
			foreign[key] = foreign[key] || section == "Messages of Kafka, libraries and the system"
		}
	}
	return rows, foreign
}

// messages lists what the packages say to users.
func messages(t *testing.T) []message {
	var all []message
	for _, dir := range []string{"agent", "condition", "fetch", "sink", "limits", "config", "cli", "verify"} {
		for path, source := range sources(t, dir) {
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, source, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range file.Decls {
				collect(decl, func(text string, pos token.Pos) {
					m := message{strings.Join(strings.Fields(verb.ReplaceAllString(text, "…")), " "), set.Position(pos).String()}
					if len(letter.FindAllString(m.key(), -1)) > 3 {
						all = append(all, m)
					}
				}, path)
			}
		}
	}
	return all
}

var (
	verb   = regexp.MustCompile(`%[-+# 0]*\d*(\.\d+)?[a-zA-Z]`)
	letter = regexp.MustCompile(`\pL`)
)

// speaking are the functions that are given a message, and which of their arguments it
// is. A constant without a space is another kind of argument.
var speaking = map[string][]int{
	"Warn": {0, 2}, "Error": {0}, "Log": {2}, // of slog; Warn also of strictyaml.Document
	"New": {0}, "Errorf": {0}, "Usagef": {0}, // errors.New, fmt.Errorf, command.Usagef
	"NotKafkaError": {0}, "DescriptorError": {0},
	"reject":      {1},
	"replyError":  {3},                                                                     // of the HTTP API
	"ReportField": {3}, "Report": {2}, "whole": {1}, "at": {1}, "here": {0}, "Locate": {1}, // of strictyaml; Locate also of config.Locator
}

// explaining are the functions whose texts are messages.
var explaining = map[string]bool{"Error": true, "BrokerProblem": true, "ExplainConflict": true, "waitsFor": true}

// collect finds the messages in a declaration: arguments of speaking functions, warnings
// among the reasons of a decision, reminders of conditions, the texts of problems and of invalid file names, and
// those in explaining functions and in explain.go.
func collect(decl ast.Decl, found func(text string, pos token.Pos), path string) {
	method, ok := decl.(*ast.FuncDecl)
	returns := ok && explaining[method.Name.Name] || filepath.Base(path) == "explain.go"
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			name := called(n)
			for _, i := range speaking[name] {
				if i >= len(n.Args) {
					continue
				}
				if text, ok := constantText(n.Args[i]); ok && strings.Contains(text, " ") {
					found(text, n.Pos())
					break
				}
			}
			if returns && name == "Sprintf" {
				if text, ok := constantText(n.Args[0]); ok {
					found(text, n.Pos())
				}
			}
		case *ast.ReturnStmt:
			for _, r := range n.Results {
				if text, ok := constantText(r); ok && returns && strings.Contains(text, " ") {
					found(text, r.Pos())
				}
			}
		case *ast.AssignStmt:
			for _, r := range n.Rhs {
				if text, ok := constantText(r); ok && returns && strings.Contains(text, " ") {
					found(text, r.Pos())
				}
			}
		case *ast.ValueSpec:
			for _, v := range n.Values {
				if text, ok := constantText(v); ok && returns && strings.Contains(text, " ") {
					found(text, v.Pos())
				}
			}
		case *ast.KeyValueExpr:
			if id, ok := n.Key.(*ast.Ident); ok && id.Name == "Message" {
				if text, ok := constantText(n.Value); ok {
					found(text, n.Pos())
				}
			}
		case *ast.CompositeLit:
			at := -1
			switch id := typeName(n); {
			case strings.EqualFold(id, "reason") && len(n.Elts) == 2 && called(&ast.CallExpr{Fun: n.Elts[1]}) == "LevelWarn":
				at = 0
			case id == "Kind" && len(n.Elts) == 2: // of package condition
				at = 0
			case id == "Error" && len(n.Elts) == 3: // of package filename
				at = 1
			}
			if at >= 0 {
				if text, ok := constantText(n.Elts[at]); ok {
					found(text, n.Pos())
				}
			}
		}
		return true
	})
}

// typeName returns the name of the type of a composite literal, without its package.
func typeName(c *ast.CompositeLit) string {
	if c.Type == nil {
		return ""
	}
	return called(&ast.CallExpr{Fun: c.Type})
}

func called(c *ast.CallExpr) string {
	switch fn := c.Fun.(type) {
	case *ast.SelectorExpr:
		return fn.Sel.Name
	case *ast.Ident:
		return fn.Name
	}
	return ""
}

// constantText returns the text of e, with a verb for each part that is not constant; ok is
// false if no part is.
func constantText(e ast.Expr) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, err := strconv.Unquote(e.Value)
			return text, err == nil
		}
	case *ast.CallExpr: // fmt.Sprintf
		if called(e) == "Sprintf" {
			return constantText(e.Args[0])
		}
	case *ast.BinaryExpr:
		left, inLeft := constantText(e.X)
		right, inRight := constantText(e.Y)
		if e.Op != token.ADD || !inLeft && !inRight {
			return "", false
		}
		if !inLeft {
			left = "%s"
		}
		if !inRight {
			right = "%s"
		}
		return left + right, true
	}
	return "", false
}

// unseen are the errors that no user sees, with the reason.
var unseen = map[string]string{
	"the list is not in the order of its keys": "the command lists the objects again",
	"render the page":                          "only if the template is wrong, which its tests find",
	"cluster":                                  "a part of other messages, the cluster's name",
	"bytes":                                    "a part of other messages, a size",
	"at least":                                 "a part of other messages, before a size",
	"client … at":                              "a part of other messages, a member",
	"and … more":                               "a part of other messages, after members",
	"do not support":                           "a part of other messages, before an assignor",
	"no room for a batch of records":           "has the batch fetched again",
	"other large batches use the memory for a batch of records that needs … bytes": "has the batch fetched again; reported after 10 s by another message",
	"decompressed batch has … bytes, more than allowed":                            "replaced by a message that names the limit",
	"the brokers belong to another cluster than the records of the file":           "not logged; an error names both clusters",
	"an open plan can only be completed by an objects sink":                        "replaced by a message that names the range",
	"the committed offset has an open plan, and the sink does not publish by plan": "not logged; an error names the plan",
	"the committed offset has an open plan that this version cannot read":          "not logged; an error names the plan",
	"decide again":                                     "ends a round, and is not an error",
	"invalid template":                                 "the configuration reports the cause and the hint",
	"use {…} in a path: invalid value":                 "Kafka and the configuration allow no such value",
	"the path element . or .. leads to another folder": "the configuration reports it as the cause of an invalid template",
	"the partition has no position":                    "has the partition resume",
	"a plan is completed first":                        "has the partition resume",
	"update sink":                                      "only if an edit was applied that the configuration rejects",
	"the object exists already":                        "the sink compares the object then",
	"the object does not exist":                        "the sink uploads the object then",
	"a part of the chunk was written before":           "has a chunk read again at once",
	"the consumer is paused":                           "has a chunk read again after the pause",
	"no records":                                       "has a partition wait without a goroutine",
	"a partition is assigned to no member":             "ends a generation; logged at info level as its reason",
	"subscribed topics have changed":                   "ends a generation; logged at info level as its reason",
	"a topic is assigned that is not subscribed to":    "has the member leave the group and join it again",
	"fetcher has ended":                                "at the end of a cluster's last consumer",
	"subscription is closed":                           "at the end of a generation",
	"no zstd frame":                                    "marks where the whole frames of a file end",
	"the file is not open":                             "has the writer open the file",
	"the file is to be completed first":                "has the writer complete the file",
	"exit":                                             "the exit code of a command that has printed its result",
	"received":                                         "logged at info level as the reason of a stop",
}
