package strictyaml

import (
	"bytes"
	"strings"
)

// openText is what is open at a place of a text: brackets of lists and mappings, and a
// quoted text. The YAML library reports an error where it gives up, which may be far
// below the bracket or the quotation mark that is not closed.
type openText struct {
	brackets []int  // offsets of the open brackets and braces, the outermost first
	quote    int    // offset of the open quotation mark; -1 if none is open
	long     [2]int // offsets of the last quoted text that spans lines; 0, 0 if there is none
}

// A scanner reads a text just closely enough to find what is open.
type scanner struct {
	openText
	data  []byte
	at    int
	plain bool // within a text without quotes, which may contain quotes and brackets
}

// openAt returns what is open at the end of data.
func openAt(data []byte) openText {
	s := scanner{openText: openText{quote: -1}, data: data}
	for s.at < len(data) && s.quote < 0 {
		s.step()
	}
	return s.openText
}

func (s *scanner) step() {
	c, flow := s.data[s.at], len(s.brackets) > 0
	switch {
	case c == '\n':
		s.plain = false
	case c == ' ' || c == '\t' || c == '\r':
	case c == '#' && s.beginsComment():
		s.at = s.lineEnd(s.at)
		return
	case flow && (c == ']' || c == '}'):
		s.brackets, s.plain = s.brackets[:len(s.brackets)-1], false
	case (c == '[' || c == '{') && (flow || !s.plain):
		s.brackets, s.plain = append(s.brackets, s.at), false
	case flow && c == ',', c == ':' && s.beforeBlank(flow):
		s.plain = false
	case s.plain:
	case c == '\'' || c == '"':
		s.quoted(c)
		return
	case (c == '|' || c == '>') && !flow && s.isBlockHeader():
		s.skipBlock()
		return
	case (c == '-' || c == '?') && s.beforeBlank(false):
	case c == '&' || c == '!' || c == '*': // an anchor or tag, before the value
		for s.at < len(s.data) && !bytes.ContainsRune([]byte(" \t\r\n,]}"), rune(s.data[s.at])) {
			s.at++
		}
		return
	default:
		s.plain = true
	}
	s.at++
}

func (s *scanner) beginsComment() bool {
	return s.at == 0 || strings.IndexByte(" \t\n\r", s.data[s.at-1]) >= 0 ||
		len(s.brackets) > 0 && strings.IndexByte("[{,", s.data[s.at-1]) >= 0
}

func (s *scanner) beforeBlank(flow bool) bool {
	if s.at+1 == len(s.data) {
		return true
	}
	next := s.data[s.at+1]
	return strings.IndexByte(" \t\n\r", next) >= 0 || flow && strings.IndexByte(",[]{}", next) >= 0
}

func (s *scanner) lineEnd(from int) int {
	if i := bytes.IndexByte(s.data[from:], '\n'); i >= 0 {
		return from + i
	}
	return len(s.data)
}

// quoted skips a quoted text, or leaves its quotation mark open.
func (s *scanner) quoted(mark byte) {
	begin := s.at
	for i := begin + 1; i < len(s.data); i++ {
		switch {
		case mark == '"' && s.data[i] == '\\':
			i++
		case s.data[i] != mark:
		case mark == '\'' && i+1 < len(s.data) && s.data[i+1] == mark:
			i++
		default:
			if bytes.IndexByte(s.data[begin:i], '\n') >= 0 {
				s.long = [2]int{begin, i}
			}
			s.at = i + 1
			return
		}
	}
	s.quote = begin
}

// isBlockHeader reports whether | or > begins a text that the next lines hold.
func (s *scanner) isBlockHeader() bool {
	header, _, _ := bytes.Cut(s.data[s.at+1:s.lineEnd(s.at)], []byte(" #"))
	return len(bytes.Trim(header, "+-0123456789 \t\r")) == 0
}

// skipBlock skips the lines of such a text, which are indented further than its key.
func (s *scanner) skipBlock() {
	begin := bytes.LastIndexByte(s.data[:s.at], '\n') + 1
	key := bytes.IndexFunc(s.data[begin:s.at], func(r rune) bool { return r != ' ' && r != '-' })
	if key < 0 {
		key = bytes.IndexByte(s.data[begin:s.at], '-')
	}
	for s.at = s.lineEnd(s.at); s.at < len(s.data); {
		end := s.lineEnd(s.at + 1)
		line := s.data[s.at+1 : end]
		if len(bytes.TrimSpace(line)) > 0 && indentOf(line) <= key {
			return
		}
		s.at = end
	}
}

// indentOf counts the spaces at the start of a line.
func indentOf(line []byte) int { return len(line) - len(bytes.TrimLeft(line, " ")) }
