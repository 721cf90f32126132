package textdiff

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var (
	// secretWord is in the name of each key whose value is secret, typing errors included.
	secretWord = regexp.MustCompile(`(?i)pass|pas+w|pwd|secret|token|credential|private_?key|access_?key|api_?key|authoriz|bearer`)
	// notSecret are keys with a secretWord that name a file or an address.
	notSecret = regexp.MustCompile(`(?i)_(file|url)$`)
	// secretEntry is a key with its colon, in a line of any layout, also in a comment.
	secretEntry = regexp.MustCompile(`(?i)([\w.-]*(?:` + secretWord.String()[4:] + `)[\w.-]*)["']?\s*[:=]`)
	// keyLine begins an entry of a block mapping.
	keyLine = regexp.MustCompile(`^ *(- +)*("[^"]*"|'[^']*'|[\w.$/-]+) *:( |$)`)
	// userInfo is everything in a URL that may be a user and a password.
	userInfo = regexp.MustCompile(`://\S*@`)
	colon    = regexp.MustCompile(`^["']?\s*[:=]`)
	alias    = regexp.MustCompile(`\*([^\s,\[\]{}]+)`)
)

func isSecretKey(key string) bool { return secretWord.MatchString(key) && !notSecret.MatchString(key) }

// inLogin are the keys below sasl that hold no secret. Others may be typing errors of those
// that do.
var inLogin = []string{
	"mechanism", "username", "password_file", "oauth", "aws", "region", "token_file", "token_url", "client_id",
	"client_secret_file", "scopes", "audience", "ca_file", "extensions",
}

// A page is a text while its secrets are hidden.
type page struct {
	lines [][]rune
	from  []int // by line: hidden from this column to the end
	upTo  []int // by line: hidden from the beginning up to this column
}

func newPage(text string) *page {
	p := &page{}
	for line := range strings.SplitSeq(text, "\n") {
		p.lines = append(p.lines, []rune(line))
		p.from, p.upTo = append(p.from, len([]rune(line))), append(p.upTo, 0)
	}
	return p
}

// hide hides, in a clean text:
//   - in YAML, the values of secret keys, whatever their layout, the anchors that they refer
//     to, and values with a URL that has a user;
//   - in what is not YAML, everything from a secret key on up to the next line that can only
//     be another entry;
//   - in comments, everything from a secret key on up to the end of the comment;
//   - the user and password of URLs, and each occurrence of a known secret.
func hide(text string, known []string) string {
	p := newPage(text)
	if nodes, ok := parse(text); ok {
		p.hideNodes(nodes)
	} else {
		p.hideEntries()
	}
	p.hideComments()
	literals := replaceAll(known)
	var b strings.Builder
	for i, line := range p.lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		upTo, from := min(p.upTo[i], len(line)), p.from[i]
		if from <= upTo && upTo > 0 || from < len(line) && strings.TrimSpace(string(line[upTo:from])) == "" {
			upTo, from = 0, 0 // nothing is left
		}
		if upTo > 0 {
			b.WriteString(hidden(string(line[:upTo])))
		}
		visible := userInfo.ReplaceAllStringFunc(string(line[upTo:from]), func(s string) string { return "://" + hidden(s) + "@" })
		b.WriteString(literals.Replace(visible))
		rest := string(line[from:])
		if value := strings.TrimLeft(rest, " "); value != "" {
			b.WriteString(rest[:len(rest)-len(value)] + hidden(value))
		}
	}
	return b.String()
}

// minLiteral is the length in bytes from which a known secret is hidden wherever it occurs. A
// shorter one occurs in other words, and would be revealed where these are hidden.
const minLiteral = 3

// replaceAll returns a replacer of known secrets, as they may be written: each of their lines,
// and with the escapes of YAML, of variables and of URLs.
func replaceAll(known []string) *strings.Replacer {
	var forms []string
	for _, secret := range known {
		for line := range strings.SplitSeq(breaks.Replace(secret), "\n") {
			line = strings.TrimSpace(line)
			dollars := strings.ReplaceAll(line, "$", "$$")
			forms = append(forms, line, dollars, strings.ReplaceAll(dollars, "'", "''"),
				strings.ReplaceAll(strings.ReplaceAll(dollars, `\`, `\\`), `"`, `\"`), url.QueryEscape(line), url.PathEscape(line))
		}
	}
	forms = slices.DeleteFunc(forms, func(s string) bool { return len(s) < minLiteral })
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) }) // the longest wins
	var pairs []string
	for _, s := range slices.Compact(forms) {
		pairs = append(pairs, s, hidden(s))
	}
	return strings.NewReplacer(pairs...)
}

// hideFrom hides a line from a column on.
func (p *page) hideFrom(line, column int) {
	p.from[line] = min(p.from[line], max(column, 0))
}

// column returns the rune column of a byte offset in a line.
func (p *page) column(line, offset int) int {
	return len([]rune(string(p.lines[line])[:offset]))
}

// hideEntries hides the values of secret keys in a text that is not YAML, and everything
// after them that may belong to a value: up to a line that begins an entry, is not deeper
// than that of the key, and is outside of quotes and brackets.
func (p *page) hideEntries() {
	aliases := make(map[string]bool)
	for again := true; again; {
		again = false
		for i := 0; i < len(p.lines); i++ {
			text := string(p.lines[i])
			at, ok := secretStart(text, aliases)
			if !ok {
				continue
			}
			end := p.hideEntry(i, p.column(i, at))
			for ; i < end; i++ {
				for _, m := range alias.FindAllStringSubmatch(string(p.lines[i]), -1) {
					again = again || !aliases[m[1]]
					aliases[m[1]] = true
				}
			}
			i--
		}
	}
}

// secretStart returns the offset in a line after a secret key or the anchor of an alias.
func secretStart(line string, aliases map[string]bool) (offset int, ok bool) {
	offset = len(line)
	for _, m := range secretWord.FindAllStringIndex(line, -1) {
		rest := line[m[1]:]
		name := strings.IndexFunc(rest, func(r rune) bool { return !isWord(r) })
		if name < 0 {
			name = len(rest)
		}
		if !notSecret.MatchString(rest[:name]) {
			return m[1] + name + len(colon.FindString(rest[name:])), true
		}
	}
	for name := range aliases {
		if i := strings.Index(line, "&"+name); i >= 0 && i < offset {
			offset, ok = i, true
		}
	}
	return offset, ok
}

func isWord(r rune) bool {
	return r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// hideEntry hides the entry at a line and column, and returns the line after it.
func (p *page) hideEntry(line, column int) (end int) {
	indent := indentOf(p.lines[line])
	p.hideFrom(line, column)
	value := scanner{atStart: true}
	value.read(string(p.lines[line][column:]))
	for end = line + 1; end < len(p.lines); end++ {
		text := string(p.lines[end])
		if indentOf(p.lines[end]) <= indent && keyLine.MatchString(text) && !value.open() {
			break
		}
		p.hideFrom(end, 0)
		value.read(text)
	}
	return end
}

func indentOf(line []rune) int {
	for i, r := range line {
		if r != ' ' {
			return i
		}
	}
	return len(line)
}

// hideComments hides the values of secret keys in comments, up to the end of the comment.
func (p *page) hideComments() {
	inSecret := false
	for i, line := range p.lines {
		text := string(line)
		start := strings.IndexByte(text, '#')
		if inSecret = inSecret && start >= 0 && strings.TrimSpace(text[:start]) == ""; inSecret {
			p.hideFrom(i, p.column(i, start+1))
			continue
		}
		if start < 0 {
			continue
		}
		for _, m := range secretEntry.FindAllStringSubmatchIndex(text[start:], -1) {
			if !notSecret.MatchString(text[start+m[2] : start+m[3]]) {
				p.hideFrom(i, p.column(i, start+m[1]))
				inSecret = true
			}
		}
	}
}
