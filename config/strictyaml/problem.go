package strictyaml

import (
	"fmt"
	"strings"
)

// A Problem is one mistake in a file, with its place.
type Problem struct {
	File    string `json:"file" doc:"Path of the file."`
	Line    int    `json:"line" doc:"Line of the file, from 1; 0 if no line is known."`
	Column  int    `json:"column" doc:"Column in the line, from 1; 0 if no line is known."`
	Path    string `json:"path" doc:"Key that the problem is about, such as consumers[1].sink.file.path; empty if it concerns the whole file."`
	Message string `json:"message" doc:"What is wrong."`
	Hint    string `json:"hint" doc:"How to correct it; empty if unknown."`
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

// Problems are all mistakes of a file, in the order of the file. As an error they print
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
