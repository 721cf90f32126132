package config

import (
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

var (
	envName      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	bareVariable = regexp.MustCompile(`^\$[A-Za-z_][A-Za-z0-9_]*`) // as a shell would expand it
)

// expandScalar replaces ${NAME}, ${NAME:-default} and $$ in a value. Any other
// dollar sign stands for itself, as in a regular expression; where it cannot be
// meant, unexpanded reports it.
func (p *parser) expandScalar(n *yaml.Node, path string) *yaml.Node {
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
				p.report(n, path, "malformed variable after $", "write ${NAME} or ${NAME:-default}; a dollar sign itself is $$")
				p.broken[n] = true
				return n
			}
			value, set := p.getenv(name)
			if hasFallback && value == "" {
				value, set = fallback, true
			}
			if !set {
				message, hint := "the environment variable "+name+" is not set", "set it, or write ${"+name+":-default}"
				if holdsSecret(path) && n.Value != "${"+name+"}" { // a secret may have such a text in it
					message, hint = "the environment variable that it names is not set", "set it; a dollar sign itself is $$"
				}
				p.report(n, path, message, hint)
				p.broken[n] = true
			}
			out.WriteString(value)
			rest, used = after, true
		default:
			if bare == "" {
				bare = bareVariable.FindString(rest)
			}
			out.WriteByte('$')
			rest = rest[1:]
		}
	}
	if p.broken[n] {
		return n
	}
	c := *n
	c.Value = out.String()
	if used {
		p.flexible[&c] = true
	}
	if bare != "" {
		p.bare[&c] = bare
	}
	return &c
}

// unexpanded returns what is wrong with a value in which a shell would expand
// something, and kcagent does not: a variable without braces, and, in a path, a
// tilde.
func (p *parser) unexpanded(n *yaml.Node, isPath bool) (message, hint string) {
	home, _, _ := strings.Cut(n.Value, "/")
	switch {
	case p.bare[n] != "":
		name := p.bare[n]
		return name + " is not expanded", "write ${" + name[1:] + "}; a dollar sign itself is $$"
	case isPath && strings.HasPrefix(home, "~"):
		return home + " is not expanded", "write the whole path or ${HOME}/…; for a folder with this name write ./" + home
	}
	return "", ""
}

// holdsSecret reports whether a path is that of a [Secret].
func holdsSecret(path string) bool {
	return strings.HasSuffix(path, ".password") || strings.HasSuffix(path, ".client_secret")
}
