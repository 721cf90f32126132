package strictyaml

import (
	"fmt"
	"strings"
	"testing"
)

// TestBadCharactersAreLocated: characters that no file may hold, and those that only look
// like a space or a quotation mark. Goldens could not show them.
func TestBadCharactersAreLocated(t *testing.T) {
	utf16 := func(text string, first, second byte) string {
		var b strings.Builder
		for _, c := range []byte(text) {
			b.Write([]byte{first * c, second * c})
		}
		return b.String()
	}
	for _, c := range []struct{ name, text, want string }{
		{"NUL", "name: a\ncount: 1\x00\nwait: 1s\n", `2:9: invalid control character U+0000 | remove it; in a text in double quotes write an escape such as "\x07"`},
		{"bell in a comment", "name: a\n# \x07\n", `2:3: invalid control character U+0007 | remove it; in a text in double quotes write an escape such as "\x07"`},
		{"each line", "name: \x01a\x02\ncount: \x03\n", `1:7: invalid control character U+0001 | remove it; in a text in double quotes write an escape such as "\x07"
2:8: invalid control character U+0003 | remove it; in a text in double quotes write an escape such as "\x07"`},
		{"next line", "name: \u0085a\n", `1:7: invalid control character U+0085 | remove it; in a text in double quotes write an escape such as "\x07"`},
		{"line separator", "name: é\u2028a\n", "1:8: invalid line separator U+2028 | write a line feed"},
		{"carriage return", "name: a\rcount: 1\n", "1:8: a carriage return (U+000D) is not followed by a line feed | save the file with the line ends of Unix"},
		{"byte order mark", "name: a\n\ufeffcount: 1\n", "2:1: a byte order mark (U+FEFF) is within the text | remove it; it can only be at the start of the file"},
		{"Latin-1", "name: a\n# caf\xe9\n", "2:6: the file is not UTF-8 text | save it as UTF-8"},
		{"UTF-16, little-endian", utf16("name: a\n", 1, 0), "1:1: the file is UTF-16 text | save it as UTF-8"},
		{"UTF-16, big-endian", utf16("name: a\n", 0, 1), "1:1: the file is UTF-16 text | save it as UTF-8"},
		{"UTF-16 with a byte order mark", "\xff\xfe" + utf16("name: a\n", 1, 0), "1:1: the file is UTF-16 text | save it as UTF-8"},
		{"no-break space in a value", "name: a\u00a0b\n", "1:8: contains an invisible character (U+00A0) | write a space or remove it; if it is intended, quote the text"},
		{"zero-width space in a key", "na\u200bme: a\n", "1:3: contains an invisible character (U+200B) | write a space or remove it; if it is intended, quote the text"},
		{"no-break space as indentation", "inner:\n\u00a0 name: a\n", "1:7: missing value | write {} for the defaults, or remove the key\n2:1: contains an invisible character (U+00A0) | write a space or remove it; if it is intended, quote the text"},
		{"typographic quotation marks", "name: “a”\n", `1:7: a typographic quotation mark (U+201C) does not quote | quote with " or '`},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := New(Options{File: "f", Root: "name"})
			if root := d.Read([]byte(c.text)); root != nil {
				d.Decode(root, "", new(block))
			}
			var got []string
			for _, p := range d.Problems() {
				got = append(got, fmt.Sprintf("%d:%d: %s | %s", p.Line, p.Column, p.Message, p.Hint))
			}
			if got := strings.Join(got, "\n"); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestUnusualTextIsAccepted: what looks like a mistake and is none.
func TestUnusualTextIsAccepted(t *testing.T) {
	for _, text := range []string{
		"\ufeffname: a\n", "name: a\r\ncount: 1\r\n", "name:\ta\ncount:\t1\n", "name: a\t\n", "# a\u00a0b “c”\nname: a\n",
		"name: 'a\u00a0b'\n", "name: '“a”'\n", "name: \"a\\0\"\n", "name: !!str a\n", "--- \nname: a\n...\n", "%YAML 1.1\n---\nname: a\n",
	} {
		if _, problems := decode(text); problems != "" {
			t.Errorf("%q: %s", text, problems)
		}
	}
}
