package strictyaml

import (
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// A TextKind says what a text may contain.
type TextKind int

// The kinds of text.
const (
	Identifier TextKind = iota // an address, a name or a number: nothing that another program has to replace
	Path                       // the same, and no tilde
	Pattern                    // a regular expression
	Free                       // any text: a leftover is only a warning
	Secret                     // any text, which no message shows
)

var (
	percentName   = regexp.MustCompile(`%([A-Za-z_][A-Za-z0-9_]*)%`)
	angleName     = regexp.MustCompile(`<[A-Za-z_][A-Za-z0-9_ -]*>`)
	rendered      = regexp.MustCompile(`\{\{.*\}\}|\{%.*%\}`)
	backticks     = regexp.MustCompile("`[^`]+`")
	encryptedText = regexp.MustCompile(`^(\$ANSIBLE_VAULT;|ENC\[AES256_GCM,)`)
)

// leftover reports a text that another program should have replaced, such as $NAME, a
// template or a command. In a secret or a free text it is a warning, and leftover returns
// false, because such a text may be intended. Elsewhere it is a problem.
func (d *Document) leftover(n *yaml.Node, path string) bool {
	kind := d.options.Kind(path)
	if kind == Free || kind == Secret {
		d.suspectText(n, path, kind)
		return false
	}
	p := d.replacedElsewhere(n, kind)
	if home, _, _ := strings.Cut(n.Value, "/"); p.Message == "" && kind == Path && strings.HasPrefix(home, "~") {
		p = Problem{Message: home + " is not expanded", Hint: "write the whole path or ${HOME}/…; for a folder of this name write ./" + home}
	}
	if p.Message != "" {
		d.Report(n, path, p.Message, p.Hint)
	}
	return p.Message != ""
}

const renderHint = "render the template before the file is delivered, or use ${NAME}"

// replacedElsewhere returns a problem if another program would replace a part of the text.
func (d *Document) replacedElsewhere(n *yaml.Node, kind TextKind) Problem {
	bare, text := d.bare[n], n.Value
	switch {
	case encryptedText.MatchString(text):
		return Problem{Message: "the value is encrypted", Hint: decryptHint}
	case bare == "$(" && kind == Pattern:
	case bare == "$(":
		return Problem{Message: "$(…) is not expanded", Hint: "kcagent runs no commands: write the value, or ${NAME} for a variable"}
	case bare != "":
		return Problem{Message: bare + " is not expanded", Hint: "use ${" + bare[1:] + "}; a dollar sign is $$"}
	}
	switch {
	case kind == Pattern:
	case rendered.MatchString(text):
		return Problem{Message: "a template is not rendered", Hint: renderHint}
	case percentName.MatchString(text):
		name := percentName.FindStringSubmatch(text)[1]
		return Problem{Message: percentName.FindString(text) + " is not expanded", Hint: "use ${" + name + "}"}
	case angleName.MatchString(text):
		return Problem{Message: angleName.FindString(text) + " is a placeholder", Hint: "replace it with the value"}
	case backticks.MatchString(text):
		return Problem{Message: "a command in backticks is not run", Hint: "kcagent runs no commands: write the value, or ${NAME} for a variable"}
	}
	return Problem{}
}

// suspectText adds a warning for a text that is valid but probably a mistake. The warning does
// not show the text.
func (d *Document) suspectText(n *yaml.Node, path string, kind TextKind) {
	const azure = "$ConnectionString" // the user name for Azure Event Hubs
	text := strings.TrimRight(n.Value, "\r\n")
	whole := func(re *regexp.Regexp) bool { return re.FindString(text) == text }
	switch {
	case text == "" || kind == Free && text == azure:
	case encryptedText.MatchString(text):
		d.Warn(n, path, "the value is encrypted", decryptHint)
	case d.bare[n] != "":
		d.Warn(n, path, "the value contains a dollar sign, and nothing is expanded there", "use ${NAME} for a variable; a dollar sign is $$")
	case whole(rendered):
		d.Warn(n, path, "the value looks like a template that is not rendered", renderHint)
	case whole(percentName) || whole(angleName) || whole(backticks):
		d.Warn(n, path, "the value looks like a placeholder", "write the value, or ${NAME} for a variable")
	case strings.TrimSpace(text) != text:
		d.Warn(n, path, "the value begins or ends with a blank", "remove the blank if it is not part of the value")
	}
}

const decryptHint = "decrypt it before the file is delivered"

// tagHints are the hints for tags of other programs.
var tagHints = map[string]string{
	"!vault":   "decrypt the value before the file is delivered: only Ansible reads its vault",
	"!env":     "write ${NAME}",
	"!ENV":     "write ${NAME}",
	"!secret":  "write ${NAME}, or name a file such as password_file",
	"!include": "put the text into this file: kcagent reads a single file",
	"!!binary": "write the text itself",
}

// unknownTag reports whether a node has a tag that is not one of YAML's own, and a hint.
func unknownTag(n *yaml.Node) (hint string, unknown bool) {
	switch tag := n.ShortTag(); tag {
	case "", "!!str", "!!int", "!!bool", "!!float", "!!null", "!!map", "!!seq", "!!timestamp", "!!merge":
		return "", false
	default:
		if hint = tagHints[tag]; hint == "" {
			hint = "remove the tag"
		}
		return hint, true
	}
}
