package filename

import (
	"path/filepath"
	"strings"
)

// Overlap reports whether two paths could name the same file after their placeholders are
// replaced, each with any of its topics and any partition. Nil topics stand for any topic.
// Overlap compares names only. Two links to one file are detected when it is opened, by the
// lock on the file.
func Overlap(a string, topicsA []string, b string, topicsB []string) bool {
	a, b = TimePattern(filepath.Clean(a)), TimePattern(filepath.Clean(b))
	headA, _, openA := strings.Cut(a, "{")
	headB, _, openB := strings.Cut(b, "{")
	switch {
	case !openA && !openB:
		return a == b
	case !strings.HasPrefix(headA, headB) && !strings.HasPrefix(headB, headA):
		return false
	}
	others := fillTopics(b, topicsB)
	for _, p := range fillTopics(a, topicsA) {
		for _, q := range others {
			if intersect(tokens(p), tokens(q)) {
				return true
			}
		}
	}
	return false
}

// A token is a byte, or a class of characters that occur once or more.
type token int16

const (
	anyTopic  token = -1 // letters, digits, dot, underscore, dash
	anyNumber token = -2 // digits
)

func tokens(path string) []token {
	var ts []token
	for path != "" {
		if rest, ok := strings.CutPrefix(path, topicPlaceholder); ok {
			ts, path = append(ts, anyTopic), rest
		} else if rest, ok := strings.CutPrefix(path, wordPlaceholder); ok {
			ts, path = append(ts, anyTopic), rest
		} else if rest, ok := strings.CutPrefix(path, numberPlaceholder); ok {
			ts, path = append(ts, anyNumber), rest
		} else if rest, ok := strings.CutPrefix(path, partitionPlaceholder); ok {
			ts, path = append(ts, anyNumber), rest
		} else {
			ts, path = append(ts, token(path[0])), path[1:]
		}
	}
	return ts
}

// intersect reports whether some text matches both patterns. It walks through both, one
// shared character at a time; a class may match several characters.
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
		if at.a == len(a) || at.b == len(b) {
			if at.a == len(a) && at.b == len(b) {
				return true
			}
			continue
		}
		x, y := a[at.a], b[at.b]
		if !shareCharacter(x, y) {
			continue
		}
		todo = append(todo, place{at.a + 1, at.b + 1})
		if x < 0 {
			todo = append(todo, place{at.a, at.b + 1})
		}
		if y < 0 {
			todo = append(todo, place{at.a + 1, at.b})
		}
	}
	return false
}

// shareCharacter reports whether some character matches both tokens.
func shareCharacter(x, y token) bool {
	switch {
	case x < 0 && y < 0:
		return true // the characters of a number are also characters of a topic
	case x < 0:
		return x.contains(y)
	case y < 0:
		return y.contains(x)
	}
	return x == y
}

func (class token) contains(c token) bool {
	digit := '0' <= c && c <= '9'
	if class == anyNumber {
		return digit
	}
	return digit || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '.' || c == '_' || c == '-'
}
