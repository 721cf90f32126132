package strictyaml

import (
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

var (
	envName      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	bareVariable = regexp.MustCompile(`^\$[A-Za-z_][A-Za-z0-9_]*`) // as a shell would expand it
)

// expand replaces ${NAME}, ${NAME:-default} and $$ in a value. Any other dollar sign
// is literal, as in a regular expression; leftover reports the ones that look like mistakes.
func (d *Document) expand(n *yaml.Node, path string) *yaml.Node {
	if !strings.Contains(n.Value, "$") {
		return n
	}
	var out strings.Builder
	used, bare := false, ""
	for rest := n.Value; rest != ""; {
		i := strings.IndexByte(rest, '$')
		if i < 0 {
			out.WriteString(rest)
			break
		}
		out.WriteString(rest[:i])
		rest = rest[i:]
		switch {
		case strings.HasPrefix(rest, "$$"):
			out.WriteByte('$')
			rest = rest[2:]
		case strings.HasPrefix(rest, "${"):
			expr, after, closed := strings.Cut(rest[2:], "}")
			name, fallback, hasFallback := strings.Cut(expr, ":-")
			if !closed || !envName.MatchString(name) {
				d.Report(n, path, "invalid variable after $", "use ${NAME} or ${NAME:-default}; a dollar sign is $$")
				d.broken[n] = true
				return n
			}
			value, set := d.options.Getenv(name)
			value = strings.TrimRight(value, "\r\n") // as a shell does, because files of secrets often end in one
			if hasFallback && value == "" {
				value, set = fallback, true
			}
			if !set {
				message, hint := "environment variable "+name+" is not set", "set it, or use ${"+name+":-default}"
				if d.options.Kind(path) == Secret && n.Value != "${"+name+"}" { // a secret may contain such a text
					message, hint = "the environment variable in this value is not set", "set it; a dollar sign is $$"
				}
				d.Report(n, path, message, hint)
				d.broken[n] = true
			}
			out.WriteString(value)
			rest, used = after, true
		default:
			if bare == "" {
				bare = bareVariable.FindString(rest)
			}
			if bare == "" && strings.HasPrefix(rest, "$(") {
				bare = "$("
			}
			out.WriteByte('$')
			rest = rest[1:]
		}
	}
	if d.broken[n] {
		return n
	}
	c := *n
	c.Value = out.String()
	if used {
		d.expanded[&c] = true
	}
	if bare != "" {
		d.bare[&c] = bare
	}
	return &c
}
