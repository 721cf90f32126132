// Package template has the templates of file paths and object keys: how placeholders are replaced,
// which records belong to the same path, and what a path says about its records.
//
// Nothing that varies leaves its place in a path: a value with a path separator or a control
// character is an error, and so is a path with an element "." or "..".
//
// Start reading at [Parse].
package template

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The names of the placeholders. A template writes them in braces, and {time:LAYOUT} with a layout
// of package time.
const (
	Name      = "name"
	Topic     = "topic"
	Partition = "partition"
	First     = "first"
	Last      = "last"
	TopicID   = "topic_id"
	Time      = "time"
)

var names = []string{Name, Topic, Partition, First, Last, TopicID, Time}

// Widths of values, in bytes.
const (
	offsetDigits  = 20
	topicIDLength = 8
	maxTopic      = 249
)

// A Template is a path or key with placeholders. It does not change, and is safe for concurrent
// use.
type Template struct {
	parts []part
	zone  *time.Location
	unit  unit // of the finest element of the layouts; never without {time:LAYOUT}
}

// A part is literal text or a placeholder.
type part struct {
	name string // of the placeholder; "" for literal text
	text string // the literal text, or the layout of a time
}

// Values replace the placeholders. A template ignores values of placeholders that it does not have.
type Values struct {
	Name, Topic string
	Partition   int32
	First, Last int64     // the first and the last offset
	TopicID     string    // Kafka's id of the topic, of which the first 8 characters are used; "" if unknown
	Time        time.Time // the timestamp of the records; zero, for none, is written as 1970-01-01T00:00:00Z
}

// An Error says why a text is not a template.
type Error struct {
	Text  string
	Cause string
	Hint  string // the next step
}

// Error returns "invalid template "x": cause; hint".
func (e *Error) Error() string {
	return fmt.Sprintf("invalid template %q: %s; %s", e.Text, e.Cause, e.Hint)
}

// Parse returns the template of a text. Times are written in the zone; nil is UTC. The error is an
// [*Error].
func Parse(text string, zone *time.Location) (*Template, error) {
	if zone == nil {
		zone = time.UTC
	}
	t := &Template{zone: zone}
	fail := func(cause, hint string) (*Template, error) { return nil, &Error{text, cause, hint} }
	for rest := text; rest != ""; {
		literal, after, found := strings.Cut(rest, "{")
		if strings.Contains(literal, "}") {
			return fail("contains a closing brace without an opening one", "remove it")
		}
		if literal != "" {
			t.parts = append(t.parts, part{text: literal})
		}
		if !found {
			break
		}
		var inside string
		if inside, rest, found = strings.Cut(after, "}"); !found {
			return fail("contains an opening brace without a closing one", "add the closing brace")
		}
		name, layout, hasLayout := strings.Cut(inside, ":")
		switch {
		case !slices.Contains(names, name):
			return fail("unknown placeholder {"+inside+"}", "use {"+strings.Join(names[:len(names)-1], "}, {")+"} or {time:LAYOUT}")
		case name != Time && hasLayout:
			return fail("{"+inside+"} has a layout", "write {"+name+"}: only {time:LAYOUT} has one")
		case name == Time:
			u, cause, hint := unitOf(layout)
			if cause != "" {
				return fail(cause, hint)
			}
			t.unit = finer(t.unit, u)
		}
		t.parts = append(t.parts, part{name, layout})
	}
	if strings.ContainsFunc(text, isControl) {
		return fail("contains a control character", "remove it")
	}
	// With short values, an element . or .. of the path can only come from the text and the layouts.
	sample, err := t.render(nil, Values{Name: "n", Topic: "t", Time: time.Unix(0, 0)})
	if err == nil {
		err = checkElements(sample)
	}
	if err != nil {
		return fail(err.Error(), "write the path without it")
	}
	return t, nil
}

// Has reports whether the template has a placeholder, such as [Topic].
func (t *Template) Has(name string) bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.name == name })
}

// Placeholders returns the names of the placeholders, each once, in the order of the template.
func (t *Template) Placeholders() (found []string) {
	for _, p := range t.parts {
		if p.name != "" && !slices.Contains(found, p.name) {
			found = append(found, p.name)
		}
	}
	return found
}

// Render replaces the placeholders. The error names a value that cannot be part of a path.
func (t *Template) Render(v Values) (string, error) {
	var room [256]byte
	text, err := t.render(room[:0], v)
	if err == nil {
		err = checkElements(text)
	}
	if err != nil {
		return "", err
	}
	return string(text), nil
}

func (t *Template) render(dst []byte, v Values) (text []byte, err error) {
	for _, p := range t.parts {
		switch p.name {
		case "":
			dst = append(dst, p.text...)
		case Name:
			if v.Name == "" || strings.ContainsFunc(v.Name, isSeparator) {
				err = invalid(Name, v.Name)
			}
			dst = append(dst, v.Name...)
		case Topic:
			if !legalTopic(v.Topic) {
				err = fmt.Errorf("write topic %q: its name cannot be part of a path", v.Topic)
			}
			dst = append(dst, v.Topic...)
		case Partition:
			dst, err = appendNumber(dst, int64(v.Partition), 1, Partition, err)
		case First:
			dst, err = appendNumber(dst, v.First, offsetDigits, First, err)
		case Last:
			dst, err = appendNumber(dst, v.Last, offsetDigits, Last, err)
		case TopicID:
			id := v.TopicID[:min(len(v.TopicID), topicIDLength)]
			if strings.ContainsFunc(id, func(c rune) bool { return c == '.' || !topicCharacter(c) }) {
				err = invalid(TopicID, v.TopicID)
			}
			dst = append(dst, id...)
		case Time:
			dst = t.local(v.Time).AppendFormat(dst, p.text)
		}
	}
	return dst, err
}

func invalid(name, value string) error {
	return fmt.Errorf("use {%s} in a path: invalid value %q", name, value)
}

// appendNumber appends a number with at least some digits.
func appendNumber(dst []byte, n int64, digits int, name string, err error) ([]byte, error) {
	if n < 0 {
		return dst, invalid(name, strconv.FormatInt(n, 10))
	}
	var room [offsetDigits]byte
	text := strconv.AppendInt(room[:0], n, 10)
	for range digits - len(text) {
		dst = append(dst, '0')
	}
	return append(dst, text...), err
}

// legalTopic reports whether Kafka allows a topic of this name.
func legalTopic(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= maxTopic &&
		!strings.ContainsFunc(name, func(c rune) bool { return !topicCharacter(c) })
}

func topicCharacter(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

// isControl reports whether c is a control character, or replaces bytes that are not UTF-8.
func isControl(c rune) bool { return unicode.IsControl(c) || c == utf8.RuneError }

func isSeparator(c rune) bool { return c == '/' || c == '\\' || isControl(c) }

var errElement = errors.New("the path element . or .. leads to another folder")

// checkElements returns an error if an element of a path leads to another folder.
func checkElements(path []byte) error {
	begin := 0
	for i := 0; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		if e := path[begin:i]; string(e) == "." || string(e) == ".." {
			return errElement
		}
		begin = i + 1
	}
	return nil
}
