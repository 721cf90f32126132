// Package textdiff compares two texts of the configuration file and hides the secrets in
// them. A text may be anything that a user has saved: it need not be valid, or even YAML.
//
// What is hidden is replaced by a marker with a tag, which depends on the hidden text. The
// texts are compared with their tags, so a changed secret is a changed line; the tags are
// removed from the result. In doubt, more is hidden: see [hide].
package textdiff

import (
	"hash/maphash"
	"strings"

	"github.com/aymanbagabas/go-udiff"
)

// MaxDiff is the length of a diff in bytes from which it is truncated.
const MaxDiff = 64 << 10

// maxText is the length of a text in bytes up to which it is compared.
const maxText = 2 << 20

// Unified returns the differences as a unified diff with three lines of context, "" if there
// are none. If it is truncated, it ends at the last whole line within MaxDiff, and is empty for
// texts above 2 MiB. secrets are values that are hidden wherever they occur.
func Unified(inForce, file string, secrets []string) (diff string, truncated bool) {
	if inForce == file {
		return "", false
	}
	if len(inForce) > maxText || len(file) > maxText {
		return "", true
	}
	inForce, file = clean(inForce), clean(file)
	known := append(secretValues(inForce), secretValues(file)...)
	known = append(known, secrets...)
	diff = udiff.Unified("in force", "file", hide(inForce, known), hide(file, known))
	diff = reveal(diff)
	if len(diff) > MaxDiff {
		return diff[:strings.LastIndexByte(diff[:MaxDiff], '\n')+1], true
	}
	return diff, false
}

// breaks are the line breaks of YAML.
var breaks = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

// The runes of markers and tags are private ones, which clean removes from texts.
const (
	marker   = '\uE100'
	firstTag = '\uE000' // to \uE0FF
)

// clean returns the text with one kind of line break, without a byte order mark, and without
// the runes of markers and tags.
func clean(text string) string {
	text = strings.TrimPrefix(strings.ToValidUTF8(text, "\uFFFD"), "\uFEFF")
	return strings.Map(func(r rune) rune {
		if r == 0 || r >= firstTag && r <= marker {
			return '\uFFFD'
		}
		return r
	}, breaks.Replace(text))
}

var tagSeed = maphash.MakeSeed()

// hidden returns a marker for a text, with the tag of the text.
func hidden(text string) string {
	tag := []rune{marker}
	for h := maphash.String(tagSeed, strings.TrimSpace(text)); h > 0; h >>= 8 {
		tag = append(tag, firstTag+rune(h&0xFF))
	}
	return string(tag)
}

// reveal replaces the markers by <secret>, and removes the tags.
func reveal(text string) string {
	text = strings.ReplaceAll(text, string(marker), "<secret>")
	return strings.Map(func(r rune) rune {
		if r >= firstTag && r < marker {
			return -1
		}
		return r
	}, text)
}
