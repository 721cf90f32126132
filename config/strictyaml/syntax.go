package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// The YAML library reports a syntax error without a column, and with the line in which the
// surrounding block begins, which may be a hundred lines above. So the file is read again to
// locate the error.

// A syntaxError locates a syntax error in a text.
type syntaxError struct {
	data  []byte
	lines [][]byte // without line ends
	begin []int    // the offsets of the lines
	text  string   // the message of the library
	stop  int      // where the library stopped to read, an offset
	line  int      // the line of the mistake, from 1
}

var (
	yamlError     = regexp.MustCompile(`(?s)^yaml: (?:line \d+: )?(.*)$`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
	conflictMark  = regexp.MustCompile(`(?m)^(<<<<<<<|>>>>>>>) .*$|^=======\r?$`)
	keyAndText    = regexp.MustCompile(`^(?:- +)*[A-Za-z_][A-Za-z0-9_.-]*:[^\s:]`)
	dashAndText   = regexp.MustCompile(`^-[A-Za-z_]`)
	template      = regexp.MustCompile(`\{\{|\{%`)
	// bracesInText matches braces that touch other text, as in ${NAME}, {topic}.log and
	// /data/{topic}. YAML reads them as a mapping if the value has no quotes.
	bracesInText = regexp.MustCompile(`[^\s{\["',:]\{|\}[^\s,}\]]`)
)

// syntaxProblem turns an error of the YAML library into a problem with its place.
func syntaxProblem(data []byte, err error) Problem {
	m := yamlError.FindStringSubmatch(err.Error())
	if m == nil {
		return Problem{Line: 1, Column: 1, Message: "invalid YAML: " + err.Error()}
	}
	if a := unknownAnchor.FindStringSubmatch(m[1]); a != nil {
		// The anchor is not named: it may be a password that begins with an asterisk.
		line, column := aliasAt(data, a[1])
		return Problem{
			Line: line, Column: column, Message: "invalid YAML: a text that begins with * is an alias, and its anchor does not exist",
			Hint: "quote the text if it is not an alias",
		}
	}
	e := &syntaxError{data: data, lines: bytes.Split(data, []byte("\n")), text: m[1], stop: stopOf(data)}
	at := 0
	for _, l := range e.lines {
		e.begin = append(e.begin, at)
		at += len(l) + 1
	}
	e.line = e.lineOf(e.rejectedAt())
	for e.line < len(e.lines) && valid(data[:e.start(e.line+1)]) {
		e.line++ // near the end of the file the library cannot read three characters ahead
	}
	return e.problem()
}

// stopOf returns the offset up to which the library reads before it reports an error: the
// mistake, and a few characters after it.
func stopOf(data []byte) int {
	r := &byteReader{data: data}
	_ = decodeAll(r)
	return r.at
}

func valid(data []byte) bool { return decodeAll(bytes.NewReader(data)) == nil }

// decodeAll reads all documents, as a second one can hold the mistake.
func decodeAll(r io.Reader) error {
	dec := yaml.NewDecoder(r)
	for {
		switch err := dec.Decode(new(yaml.Node)); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// A byteReader returns one byte at a time, so that its reader reads no further than it
// needs to.
type byteReader struct {
	data []byte
	at   int
}

func (r *byteReader) Read(p []byte) (int, error) {
	if r.at == len(r.data) {
		return 0, io.EOF
	}
	p[0] = r.data[r.at]
	r.at++
	return 1, nil
}

// rejectedAt returns the offset of the character that the library has rejected: it has read
// three characters after it.
func (e *syntaxError) rejectedAt() int {
	at := e.stop
	for range 4 {
		_, n := utf8.DecodeLastRune(e.data[:at])
		at -= n
	}
	return at
}

func (e *syntaxError) lineOf(offset int) int { return 1 + bytes.Count(e.data[:offset], []byte("\n")) }

// start returns the offset of a line.
func (e *syntaxError) start(line int) int { return e.begin[line-1] }

// at returns a problem at an offset.
func (e *syntaxError) at(offset int, message, hint string) Problem {
	line := e.lineOf(offset)
	return Problem{Line: line, Column: 1 + utf8.RuneCount(e.data[e.start(line):offset]), Message: message, Hint: hint}
}

// here returns a problem at the first character of the line of the mistake.
func (e *syntaxError) here(message, hint string) Problem {
	return e.at(e.start(e.line)+indentOf(e.lines[e.line-1]), message, hint)
}

func (e *syntaxError) problem() Problem {
	if m := conflictMark.FindIndex(e.data); m != nil && m[0] < e.stop {
		return e.at(m[0], "invalid YAML: a merge conflict is not resolved", "keep one of the two versions, and remove the lines that mark them")
	}
	if p, ok := e.unclosedQuote(); ok {
		return p
	}
	if p, ok := e.unclosedBracket(); ok {
		return p
	}
	if len(openAt(e.data[:e.start(e.line)]).brackets) == 0 {
		e.firstFailing()
	}
	if m := template.FindIndex(e.lines[e.line-1]); m != nil {
		return e.at(e.start(e.line)+m[0], "invalid YAML: a template is not rendered", renderHint)
	}
	if tag := bytes.LastIndexByte(e.data[:e.stop], '!'); tag >= e.start(e.line) && strings.Contains(e.text, "expected whitespace or line break") {
		return e.at(tag, "invalid YAML: a value that begins with ! is a tag, and is not supported", "quote the value")
	}
	if p, ok := e.badCharacter(); ok {
		return p
	}
	if strings.Contains(e.text, "expected ','") || strings.Contains(e.text, "expected node content") {
		return e.inBrackets()
	}
	return e.inBlock()
}

// firstFailing moves the line up to the first one with which the text is invalid: the
// library may have read on, to find whether a text continues.
func (e *syntaxError) firstFailing() {
	line := e.line
	for range 10 {
		if line == 1 || valid(e.data[:e.start(line)]) {
			e.line = line
			return
		}
		for line--; line > 1 && isComment(e.lines[line-1]); line-- {
		}
	}
}

// isComment reports whether a line has no content.
func isComment(line []byte) bool {
	text := bytes.TrimSpace(line)
	return len(text) == 0 || text[0] == '#'
}

// unclosedQuote finds a quotation mark that is not closed, or is closed by the next one
// that was meant to open a text.
func (e *syntaxError) unclosedQuote() (Problem, bool) {
	open := openAt(e.data[:e.start(e.line)+len(e.lines[e.line-1])])
	mark := -1
	switch {
	case open.quote >= 0 && (e.lineOf(open.quote) < e.line || openAt(e.data).quote == open.quote):
		mark = open.quote
	case open.long[1] > 0 && e.line-e.lineOf(open.long[1]) <= 1:
		mark = open.long[0]
	}
	if mark < 0 {
		return Problem{}, false
	}
	return e.at(mark, "invalid YAML: the quotation mark is not closed", "close it with "+string(e.data[mark])), true
}

// unclosedBracket finds a bracket that is still open where the next key begins: in a line
// that is indented no further than the one with the bracket.
func (e *syntaxError) unclosedBracket() (Problem, bool) {
	open := e.openAfter(e.line).brackets
	if len(open) == 0 {
		return Problem{}, false
	}
	first := e.lineOf(open[0])
	s := &scanner{openText: e.openAfter(first), data: e.data, at: e.start(first) + len(e.lines[first-1])}
	bracket := s.brackets[len(s.brackets)-1]
	for line := first + 1; line <= len(e.lines); line++ {
		text := bytes.TrimSpace(e.lines[line-1])
		if len(text) > 0 && !bytes.ContainsRune([]byte("]}#"), rune(text[0])) && indentOf(e.lines[line-1]) <= indentOf(e.lines[first-1]) {
			break
		}
		for end := min(e.start(line)+len(e.lines[line-1]), len(e.data)); s.at < end && s.quote < 0; {
			if s.step(); len(s.brackets) == 0 {
				return Problem{}, false
			}
		}
	}
	closing := map[byte]string{'[': "]", '{': "}"}[e.data[bracket]]
	return e.at(bracket, "invalid YAML: the bracket "+string(e.data[bracket])+" is not closed", "close it with "+closing), true
}

// openAfter returns what is open at the end of a line.
func (e *syntaxError) openAfter(line int) openText {
	return openAt(e.data[:e.start(line)+len(e.lines[line-1])])
}

// badCharacter finds a tab among the spaces at the start of the line, and a character
// that cannot begin a value.
func (e *syntaxError) badCharacter() (Problem, bool) {
	for line := e.line; line > 0 && line >= e.line-1; line-- {
		if r, n := utf8.DecodeRune(bytes.TrimLeft(e.lines[line-1], " ")); n > 0 && strings.ContainsRune(invisible, r) {
			return e.at(e.start(line)+indentOf(e.lines[line-1]), fmt.Sprintf("invalid YAML: the line is indented with an invisible character (U+%04X)", r), "indent with spaces"), true
		}
	}
	line := e.lines[e.line-1]
	blank := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
	if tab := bytes.IndexByte(blank, '\t'); tab >= 0 {
		return e.at(e.start(e.line)+tab, "invalid YAML: the line is indented with a tab", "indent with spaces"), true
	}
	if !strings.Contains(e.text, "cannot start any token") {
		return Problem{}, false
	}
	at := max(e.rejectedAt(), e.start(e.line))
	if i := bytes.IndexAny(e.data[at:e.stop], "\t%@`"); i >= 0 {
		at += i
	}
	switch c := e.data[at]; {
	case c == '\t':
		return e.at(at, "invalid YAML: a tab cannot be used here", "write spaces"), true
	default:
		return e.at(at, "invalid YAML: a value cannot begin with "+string(c), "quote the value"), true
	}
}

// inBrackets returns the problem of a list or mapping in brackets.
func (e *syntaxError) inBrackets() Problem {
	line := e.lines[e.line-1]
	at := e.start(e.line) + indentOf(line)
	if open := openAt(e.data[:e.rejectedAt()]).brackets; len(open) > 0 {
		at = max(at, open[len(open)-1])
	}
	switch m := bracesInText.FindIndex(line); {
	case m != nil && strings.Contains(e.text, "expected ','"):
		return e.at(e.start(e.line)+m[0], "invalid YAML: a value contains a brace", "inside { } or [ ] quote a value with ${NAME} or {topic}")
	case strings.Contains(e.text, "']'"):
		return e.at(at, "invalid YAML: a comma or ] is missing in a list", "separate its elements by commas")
	case strings.Contains(e.text, "'}'"):
		return e.at(at, "invalid YAML: a comma or } is missing in a mapping", "separate its keys by commas")
	}
	return e.at(at, "invalid YAML: "+e.text, "")
}

// aliasAt returns the place of the first use of an alias, which the library does not
// report; 1, 1 if it is not found.
func aliasAt(data []byte, name string) (line, column int) {
	alias := regexp.MustCompile(`(?m)^(?:[^#\n]*[\s\[{,:])?(\*)` + regexp.QuoteMeta(name) + `(?:$|[^\pL\pN_-])`)
	m := alias.FindSubmatchIndex(data)
	if m == nil {
		return 1, 1
	}
	begin := bytes.LastIndexByte(data[:m[2]], '\n') + 1
	return 1 + bytes.Count(data[:begin], []byte("\n")), 1 + utf8.RuneCount(data[begin:m[2]])
}
