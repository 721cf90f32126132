package strictyaml

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// slipLine is the line of the mistake in [TestSyntaxErrorsAreLocated], far below the start
// of the list.
const slipLine = 100

// longFile is a valid file of 150 lines. Line 100 is the key group of a consumer.
func longFile() []string {
	lines := []string{"# many", "# consumers", "", "# and more", "consumers:"}
	for i := 0; len(lines) < 150; i++ {
		lines = append(lines, fmt.Sprintf("  - name: c%d", i), "    topics: [a, b]", "    state: running", "    group: g",
			"    flush:", "      interval: 1s", "      bytes: 1MiB")
	}
	return lines[:150]
}

// TestSyntaxErrorsAreLocated: a mistake in line 100 is reported there, and not where the
// block around it begins.
func TestSyntaxErrorsAreLocated(t *testing.T) {
	if got := longFile()[slipLine-1]; got != "    group: g" {
		t.Fatalf("line %d is %q", slipLine, got)
	}
	for _, c := range []struct{ name, line, want string }{
		{"one space too few", "   group: g", "100:4: the indentation fits no block above | indent it with 4 spaces like line 99"},
		{"one space too many", "     group: g", "100:6: the indentation fits no block above | indent it with 4 spaces like line 99"},
		{"a dash too far left", " - name: x", "100:2: the indentation fits no block above | indent it with 2 spaces like line 97"},
		{"a dash too far right", "   - name: x", "100:4: the indentation fits no block above | indent it with 4 spaces like line 99"},
		{"a list in a mapping", "    - x", "100:5: unexpected list element | indent it like the other elements of its list"},
		{"a block that is moved", "       flush:\n         interval: 1s", "100:8: the indentation fits no block above | indent it with 4 spaces like line 99"},
		{"no space after the colon", "    group:g", "100:10: a space is missing after the colon | write key: value"},
		{"no-break space after the colon", "    group:\u00a0g", "100:11: an invisible character (U+00A0) follows the colon | write a space in its place"},
		{"no space after the dash", "  -name: x", "100:3: a space is missing after the dash | write a space between the dash and the key"},
		{"no colon", "    group g", "100:5: a colon is missing after the key | write key: value, or indent the line further if it continues the text above"},
		{"a second colon", "    group: a: b", "100:13: a value contains a colon and a space | quote the value"},
		{"a tab", "\tgroup: g", "100:1: the line is indented with a tab | indent with spaces"},
		{"a tab after spaces", "    \tgroup: g", "100:5: the line is indented with a tab | indent with spaces"},
		{"a tab after the dash", "  -\tname: x", "100:4: a tab cannot be used here | write spaces"},
		{"an open quotation mark", `    group: "g`, `100:12: the quotation mark is not closed | close it with "`},
		{"an apostrophe at the start", `    group: 'g`, `100:12: the quotation mark is not closed | close it with '`},
		{"text after a quoted text", `    group: "g" h`, `100:5: expected a key and a colon | write key: value, or check the indentation`},
		{"an open bracket", "    group: [a, b", "100:12: the bracket [ is not closed | close it with ]"},
		{"an open brace", "    flush: {interval: 1s, size: [1", "100:33: the bracket [ is not closed | close it with ]"},
		{"a missing comma", "    flush: {interval: 1s bytes: 2}", "100:12: a comma or } is missing in a mapping | separate its keys by commas"},
		{"a missing comma in a long list", "    topics: [\n      a,\n      {b: 'c' d},\n    ]", "102:7: a comma or } is missing in a mapping | separate its keys by commas"},
		{"a placeholder in braces", "    file: {path: /data/{topic}.log}", "100:23: a value contains a brace | inside { } or [ ] quote a value with ${NAME} or {topic}"},
		{"a merge conflict", "<<<<<<< HEAD\n    group: g\n=======\n    group: h\n>>>>>>> main", "100:1: a merge conflict is not resolved | keep one of the two versions, and remove the lines that mark them"},
		{"a merge conflict of git with indentation", "    group: g\n=======\n    state: x\n>>>>>>> main", "101:1: a merge conflict is not resolved | keep one of the two versions, and remove the lines that mark them"},
		{"a block text that is indented too little", "    group: |\n   text", "101:4: the indentation fits no block above | indent it with 4 spaces like line 100"},
		{"an at sign", "    group: @g", "100:12: a value cannot begin with @ | quote the value"},
		{"a percent sign", "    group: %NAME%", "100:12: a value cannot begin with % | quote the value"},
		{"a backtick", "    group: `hostname`", "100:12: a value cannot begin with ` | quote the value"},
		{"a template", "    {% if x %}", "100:5: a template is not rendered | render the template before the file is delivered, or use ${NAME}"},
		{"a template before text", "    group: {{ g }}-x", "100:12: a template is not rendered | render the template before the file is delivered, or use ${NAME}"},
		{"a template in a list", "    topics: [{{ g }}-x]", "100:14: a template is not rendered | render the template before the file is delivered, or use ${NAME}"},
		{"an exclamation mark in braces", "    flush: {interval: !a}", "100:23: a value that begins with ! is a tag, and is not supported | quote the value"},
		{"an unknown anchor", "    group: *g", "100:12: a text that begins with * is an alias, and its anchor does not exist | quote the text if it is not an alias"},
		{"a comment above", "    # comment\n\n   group: g", "102:4: the indentation fits no block above | indent it with 4 spaces like line 99"},
		{"no-break space", "\u00a0   group: g", "100:1: the line is indented with an invisible character (U+00A0) | indent with spaces"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := longFile()
			lines[slipLine-1] = c.line
			for _, end := range []string{"\n", "\r\n"} {
				text := strings.Join(lines, "\n") + "\n"
				d := New(Options{File: "f", Root: "consumers"})
				if d.Read([]byte(strings.ReplaceAll(text, "\n", end))) != nil || len(d.Problems()) != 1 {
					t.Fatalf("problems are %v, want one", d.Problems())
				}
				p := d.Problems()[0]
				got := fmt.Sprintf("%d:%d: %s | %s", p.Line, p.Column, strings.TrimPrefix(p.Message, "invalid YAML: "), p.Hint)
				if got != c.want {
					t.Errorf("got  %s\nwant %s", got, c.want)
				}
			}
		})
	}
}

// TestEachEditOfOneCharacterIsLocated: whatever one character is inserted into or removed
// from a file, a syntax error is reported at most one line from it.
func TestEachEditOfOneCharacterIsLocated(t *testing.T) {
	text, err := os.ReadFile("../../examples/many-with-defaults.yaml")
	if err != nil {
		t.Fatal(err)
	}
	far, errors := 0, 0
	check := func(at int, edited string) {
		d := New(Options{File: "f", Root: "consumers", Getenv: func(string) (string, bool) { return "", false }})
		d.Read([]byte(edited))
		line := 1 + strings.Count(string(text[:at]), "\n")
		for _, p := range d.Problems() {
			if p.Line < 1 || p.Column < 1 {
				t.Fatalf("edit at line %d: problem without a place: %v", line, p)
			}
			if !strings.HasPrefix(p.Message, "invalid YAML") {
				continue
			}
			errors++
			if distance(p.Line, line) > 1+strings.Count(edited, "\n")-strings.Count(string(text), "\n") {
				far++
				t.Logf("edit at line %d is reported in line %d: %s: %q", line, p.Line, p.Message, strings.Split(edited, "\n")[line-1])
			}
		}
	}
	step := 1
	if testing.Short() || raceEnabled { // the detector makes it ten times as slow, and there is one goroutine
		step = 13
	}
	for at := 0; at < len(text); at += step {
		check(at, string(text[:at])+string(text[at+1:]))
		for _, c := range " \t\n:-\"'[]{}#&*!|>%@`,x$" {
			check(at, string(text[:at])+string(c)+string(text[at:]))
		}
	}
	t.Logf("%d syntax errors, %d far from the edit", errors, far)
	if errors < 500 || far > errors/50 {
		t.Errorf("%d of %d syntax errors are reported far from the edit", far, errors)
	}
}
