package textdiff

import "strings"

// A scanner reads a value line by line, to find out whether a quote or a bracket is open. It
// is only for texts that are not YAML as a whole.
type scanner struct {
	quote    byte // that is open, or 0
	brackets int  // that are open
	atStart  bool // a quote here would open one
}

func (s *scanner) open() bool { return s.quote != 0 || s.brackets > 0 }

// read reads the next line of the value.
func (s *scanner) read(line string) {
	for i := 0; i < len(line); i++ {
		rest := line[i:]
		switch {
		case s.quote == '"' && rest[0] == '\\', s.quote == '\'' && strings.HasPrefix(rest, "''"):
			i++ // the next one is escaped
		case s.quote != 0:
			if rest[0] == s.quote {
				s.quote = 0
			}
		case rest[0] == ' ', rest[0] == '\t':
		case s.atStart && (rest[0] == '!' || rest[0] == '&'): // a tag or an anchor
			i += strings.IndexByte(rest+" ", ' ') - 1
		case s.atStart && (rest[0] == '"' || rest[0] == '\''):
			s.quote, s.atStart = rest[0], false
		default:
			s.readIndicator(rest)
		}
	}
}

// readIndicator reads a character outside of quotes.
func (s *scanner) readIndicator(rest string) {
	switch rest[0] {
	case '{', '[':
		if s.atStart || s.brackets > 0 {
			s.brackets++
			s.atStart = true
		}
	case '}', ']':
		s.brackets = max(s.brackets-1, 0)
		s.atStart = false
	case ',':
		s.atStart = s.brackets > 0
	case ':', '-', '?':
		s.atStart = len(rest) == 1 || rest[1] == ' '
	default:
		s.atStart = false
	}
}
