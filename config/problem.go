package config

import (
	"fmt"
	"strings"
)

// A Problem is one mistake in the file, with its place.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`   // from 1; 0 where no line is to blame
	Column  int    `json:"column"` // from 1
	Path    string `json:"path"`   // such as consumers[1].sink.file.path
	Message string `json:"message"`
	Hint    string `json:"hint"` // the next step, where one is known
}

// String is "file:line:column: path: message", and the hint on a line of its own.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString("\n  hint: " + p.Hint)
	}
	return b.String()
}

// Problems are all mistakes of a file, in file order. As an error they print
// one after the other.
type Problems []Problem

// Error prints every problem, each from the start of a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
