package strictyaml

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxCharacterProblems bounds how many lines with characters that no file may hold are
// reported: a file of another kind has thousands.
const maxCharacterProblems = 10

// characterProblems returns a problem for each line with a character that no file may
// hold, at the first one in the line.
func characterProblems(data []byte) []Problem {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) || looksUTF16(data) {
		return []Problem{{Line: 1, Column: 1, Message: "the file is UTF-16 text", Hint: "save it as UTF-8"}}
	}
	var problems []Problem
	for i, line := range bytes.Split(bytes.TrimPrefix(data, []byte("\ufeff")), []byte("\n")) {
		at, p := badCharacter(bytes.TrimSuffix(line, []byte("\r")))
		if p.Message == "" {
			continue
		}
		p.Line, p.Column = i+1, 1+utf8.RuneCount(line[:at])
		if problems = append(problems, p); len(problems) == maxCharacterProblems {
			break
		}
	}
	return problems
}

// looksUTF16 reports whether each second byte of the start is zero, as in UTF-16 without
// a byte order mark.
func looksUTF16(data []byte) bool {
	return len(data) >= 4 && (data[0] == 0 && data[2] == 0 && data[1] != 0 || data[1] == 0 && data[3] == 0 && data[0] != 0)
}

// badCharacter finds the first character in a line that no file may hold.
func badCharacter(line []byte) (at int, p Problem) {
	for at := 0; at < len(line); {
		r, n := utf8.DecodeRune(line[at:])
		switch {
		case r == utf8.RuneError && n <= 1:
			return at, Problem{Message: "the file is not UTF-8 text", Hint: "save it as UTF-8"}
		case r == '\r':
			return at, Problem{Message: "a carriage return (U+000D) is not followed by a line feed", Hint: "save the file with the line ends of Unix"}
		case r == '\ufeff':
			return at, Problem{Message: "a byte order mark (U+FEFF) is within the text", Hint: "remove it; it can only be at the start of the file"}
		case r < ' ' && r != '\t', r >= 0x7f && r < 0xa0, r >= 0xfffe && r <= 0xffff:
			return at, Problem{Message: fmt.Sprintf("invalid control character U+%04X", r), Hint: `remove it; in a text in double quotes write an escape such as "\x07"`}
		case r == '\u2028' || r == '\u2029':
			return at, Problem{Message: fmt.Sprintf("invalid line separator U+%04X", r), Hint: "write a line feed"}
		}
		at += n
	}
	return 0, Problem{}
}

// invisible are characters that look like a space or like nothing. YAML does not treat
// them as spaces.
const invisible = "\u00a0\u00ad\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d\u200e\u200f\u202f\u205f\u2060\u3000"

// typographic are quotation marks that do not quote in YAML.
const typographic = "\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"

// cleaned returns a key without such characters.
func cleaned(key string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(invisible+typographic, r) {
			return -1
		}
		return r
	}, key)
}

// lookalike finds a character in a text without quotes that is there by accident: an
// invisible one, or a typographic quotation mark at its start.
func lookalike(text string) (at int, p Problem) {
	if r, _ := utf8.DecodeRuneInString(text); strings.ContainsRune(typographic, r) {
		return 0, Problem{Message: fmt.Sprintf("a typographic quotation mark (U+%04X) does not quote", r), Hint: `quote with " or '`}
	}
	if i := strings.IndexAny(text, invisible); i >= 0 {
		r, _ := utf8.DecodeRuneInString(text[i:])
		return i, Problem{Message: fmt.Sprintf("contains an invisible character (U+%04X)", r), Hint: "write a space or remove it; if it is intended, quote the text"}
	}
	return 0, Problem{}
}
