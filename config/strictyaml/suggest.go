package strictyaml

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Suggest returns the hint "did you mean …?" if a known word is near to the given one,
// else "".
func Suggest(word string, known []string) string { return didYouMean(Nearest(word, known)) }

func didYouMean(word string) string {
	if word == "" {
		return ""
	}
	return "did you mean " + strconv.Quote(word) + "?"
}

// Nearest returns the known word that is most like the given one, or "" if none is like it.
func Nearest(word string, known []string) string {
	best, distance := "", 3
	for _, k := range known {
		if k == "-" || k == "" {
			continue
		}
		if d := editDistance(strings.ToLower(word), strings.ToLower(k)); d < distance && d*2 < len(k)+1 {
			best, distance = k, d
		}
	}
	return best
}

// editDistance counts the letters to add, remove, change or swap with their neighbour.
func editDistance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// harmless matches elements that a list in brackets can hold without quotation marks, and
// that contain no user and password.
var harmless = regexp.MustCompile(`^\w[\w.:-]*$`)

// listHint proposes the list for a text: one element, or several between commas.
func listHint(n *yaml.Node) string {
	elements := strings.FieldsFunc(n.Value, func(r rune) bool { return r == ',' || r == ' ' })
	if n.Tag != "!!str" || len(elements) == 0 || len(n.Value) > 100 || slices.ContainsFunc(elements, func(e string) bool { return !harmless.MatchString(e) }) {
		return "write it in brackets: [ … ]"
	}
	return "write [" + strings.Join(elements, ", ") + "]"
}
