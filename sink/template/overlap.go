package template

import "strings"

// Elements returns the elements of the template's path, with their placeholders, for [Overlap]. A
// layout is divided at its slashes: {time:2006/01} is {time:2006} and {time:01}.
func (t *Template) Elements() []string {
	var b strings.Builder
	for _, p := range t.parts {
		switch p.name {
		case "":
			b.WriteString(p.text)
		case Time:
			b.WriteString("{time:" + strings.ReplaceAll(p.text, "/", "}/{time:") + "}")
		default:
			b.WriteString("{" + p.name + "}")
		}
	}
	return strings.Split(b.String(), "/")
}

// Overlap reports whether two elements, as Elements returns them, can have the same text, each with
// any values. It may report it although they cannot, because it does not know which texts a layout
// has.
func Overlap(a, b string) bool { return intersect(tokens(a), tokens(b)) }

// A set holds bytes.
type set [4]uint64

func setOf(bytes string) (s set) {
	for i := range len(bytes) {
		s[bytes[i]/64] |= 1 << (bytes[i] % 64)
	}
	return s
}

func (s set) shares(o set) bool {
	return s[0]&o[0]|s[1]&o[1]|s[2]&o[2]|s[3]&o[3] != 0
}

const (
	numerals = "0123456789"
	letters  = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	inLayout = letters + numerals + "_ " // of which the elements of layouts consist, and their texts
)

var (
	inNumber = setOf(numerals)
	inTopic  = setOf(letters + numerals + "._-")
	inID     = setOf(letters + numerals + "_-")
	inTime   = setOf(inLayout)
)

// A token is a byte of one set.
type token struct {
	set
	more bool // the byte may be followed by any number of bytes of the set
	skip int  // so many tokens from this one on may be absent; 0 if this one may not
}

func tokens(element string) (ts []token) {
	times := func(n int, s set) {
		for range n {
			ts = append(ts, token{set: s})
		}
	}
	for element != "" {
		if element[0] != '{' {
			ts, element = append(ts, token{set: setOf(element[:1])}), element[1:]
			continue
		}
		var inside string
		inside, element, _ = strings.Cut(element[1:], "}")
		switch name, layout, _ := strings.Cut(inside, ":"); name {
		case Topic, Name:
			ts = append(ts, token{set: inTopic, more: true})
		case Partition:
			ts = append(ts, token{set: inNumber, more: true})
		case First, Last:
			times(offsetDigits, inNumber)
		case TopicID:
			at := len(ts)
			times(topicIDLength, inID)
			ts[at].skip = topicIDLength
		case Time:
			ts = appendLayout(ts, layout)
		}
	}
	return ts
}

// appendLayout appends a token for each run of characters of which the elements of layouts consist.
func appendLayout(ts []token, layout string) []token {
	run := false
	for i := range len(layout) {
		varies := strings.IndexByte(inLayout, layout[i]) >= 0
		switch {
		case !varies:
			ts = append(ts, token{set: setOf(layout[i : i+1])})
		case !run:
			ts = append(ts, token{set: inTime, more: true})
		}
		run = varies
	}
	return ts
}

// intersect reports whether some text matches both patterns. It walks through both, one shared
// byte at a time.
func intersect(a, b []token) bool {
	type place struct{ a, b int }
	seen := map[place]bool{}
	todo := []place{{}}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[at] {
			continue
		}
		seen[at] = true
		if at.a < len(a) && a[at.a].skip > 0 {
			todo = append(todo, place{at.a + a[at.a].skip, at.b})
		}
		if at.b < len(b) && b[at.b].skip > 0 {
			todo = append(todo, place{at.a, at.b + b[at.b].skip})
		}
		if at.a == len(a) || at.b == len(b) {
			if at.a == len(a) && at.b == len(b) {
				return true
			}
			continue
		}
		x, y := a[at.a], b[at.b]
		if !x.shares(y.set) {
			continue
		}
		todo = append(todo, place{at.a + 1, at.b + 1})
		if x.more {
			todo = append(todo, place{at.a, at.b + 1})
		}
		if y.more {
			todo = append(todo, place{at.a + 1, at.b})
		}
	}
	return false
}
