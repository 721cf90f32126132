package strictyaml

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// inBlock returns the problem of a line outside of brackets.
func (e *syntaxError) inBlock() Problem {
	line := e.lines[e.line-1]
	text := bytes.TrimSpace(line)
	indent := indentOf(line)
	second := bytes.Index(text, []byte(": "))
	if second >= 0 {
		if i := bytes.Index(text[second+1:], []byte(": ")); i >= 0 {
			second += 1 + i
		} else {
			second = -1
		}
	}
	levels, at := e.levels()
	if above := e.keyAbove(); above > 0 && strings.Contains(e.text, "mapping values") {
		e.line = above
		return e.here("invalid YAML: a colon is missing after the key", missingColonHint)
	}
	switch fits := levels[indent] > 0; {
	case !fits && len(levels) > 0 && !strings.Contains(e.text, "could not find"):
		return e.badIndentation(levels, at, indent)
	case keyAndText.Match(text):
		colon := bytes.IndexByte(line, ':')
		if r, _ := utf8.DecodeRune(line[colon+1:]); strings.ContainsRune(invisible, r) {
			return e.at(e.start(e.line)+colon+1, fmt.Sprintf("invalid YAML: an invisible character (U+%04X) follows the colon", r), "write a space in its place")
		}
		return e.at(e.start(e.line)+colon, "invalid YAML: a space is missing after the colon", "write key: value")
	case dashAndText.Match(text):
		return e.here("invalid YAML: a space is missing after the dash", "write a space between the dash and the key")
	case second >= 0:
		return e.at(e.start(e.line)+indent+second, "invalid YAML: a value contains a colon and a space", "quote the value")
	case strings.Contains(e.text, "could not find expected ':'"):
		return e.here("invalid YAML: a colon is missing after the key", missingColonHint)
	case !fits && len(levels) > 0:
		return e.badIndentation(levels, at, indent)
	case len(text) > 0 && text[0] == '-':
		return e.here("invalid YAML: unexpected list element", "indent it like the other elements of its list")
	case strings.Contains(e.text, "did not find expected"):
		return e.here("invalid YAML: expected a key and a colon", "write key: value, or check the indentation")
	}
	return e.here("invalid YAML: "+e.text, "")
}

const missingColonHint = "write key: value, or indent the line further if it continues the text above"

// keyAbove returns the last line above if it has the same indentation and no colon, so
// that YAML reads the key of this line as the rest of a text; 0 otherwise.
func (e *syntaxError) keyAbove() int {
	for line := e.line - 1; line > 0; line-- {
		switch l := e.lines[line-1]; {
		case isComment(l):
		case indentOf(l) == indentOf(e.lines[e.line-1]) && !bytes.ContainsRune(l, ':'):
			return line
		default:
			return 0
		}
	}
	return 0
}

// levels returns the indentations that the line may have: the indentations of the blocks that are
// open above it, each with its last line. at lists them, the innermost first.
func (e *syntaxError) levels() (levels map[int]int, at []int) {
	levels = make(map[int]int)
	add := func(indent, line int) {
		if levels[indent] == 0 && (len(at) == 0 || indent < at[len(at)-1]) {
			levels[indent] = line
			at = append(at, indent)
		}
	}
	for line := e.line - 1; line > 0; line-- {
		l := e.lines[line-1]
		if isComment(l) {
			continue
		}
		indent := indentOf(l)
		if key := bytes.TrimLeft(l[indent:], "- "); l[indent] == '-' && len(key) > 0 {
			add(len(l)-len(key), line) // the key after the dash begins a block, too
		}
		add(indent, line)
	}
	return levels, at
}

// badIndentation returns the problem of a line whose indentation fits no block.
func (e *syntaxError) badIndentation(levels map[int]int, at []int, indent int) Problem {
	near := at[0]
	for _, level := range at {
		if distance(level, indent) < distance(near, indent) {
			near = level
		}
	}
	return e.here("invalid YAML: the indentation fits no block above",
		fmt.Sprintf("indent it with %d spaces like line %d", near, levels[near]))
}

func distance(a, b int) int { return max(a-b, b-a) }
