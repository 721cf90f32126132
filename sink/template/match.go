package template

import (
	"strconv"
	"strings"
	"time"
)

// Match is the reverse of [Template.Render]: it returns values of which the template renders the
// path. TopicID has at most 8 characters. Time is as exact as the layouts, with year 0 if they have
// no year. If several values are possible, such as with {topic}{partition}, the placeholder to the
// left has the longest text.
func (t *Template) Match(path string) (v Values, ok bool) {
	m := matcher{template: t}
	ok = m.match(t.parts, path)
	return m.Values, ok
}

// A matcher finds values for a path, by trying.
type matcher struct {
	template *Template
	Values
	bound map[string]string // the text of each placeholder so far
}

// match matches the parts that are left with the rest of a path.
func (m *matcher) match(parts []part, rest string) bool {
	if len(parts) == 0 {
		return rest == ""
	}
	p := parts[0]
	if p.name == "" {
		rest, ok := strings.CutPrefix(rest, p.text)
		return ok && m.match(parts[1:], rest)
	}
	was, bound := m.bound[p.name]
	if bound && p.name != Time { // times may have other layouts
		rest, ok := strings.CutPrefix(rest, was)
		return ok && m.match(parts[1:], rest)
	}
	if m.bound == nil {
		m.bound = make(map[string]string)
	}
	for n := len(rest); n >= 0; n-- {
		before := m.Values
		if m.set(p, rest[:n]) {
			m.bound[p.name] = rest[:n]
			if m.match(parts[1:], rest[n:]) {
				return true
			}
		}
		m.Values = before
	}
	if !bound {
		delete(m.bound, p.name)
	}
	return false
}

// set sets the value of a placeholder. It returns false if it never has this text.
func (m *matcher) set(p part, text string) bool {
	var err error
	switch p.name {
	case Name:
		m.Name = text
		return text != "" && !strings.ContainsFunc(text, isSeparator)
	case Topic:
		m.Topic = text
		return legalTopic(text)
	case Partition:
		var n int64
		n, err = strconv.ParseInt(text, 10, 32)
		m.Partition = int32(n)
		return err == nil && text == strconv.FormatInt(n, 10) && n >= 0
	case First:
		m.First, err = parseOffset(text)
	case Last:
		m.Last, err = parseOffset(text)
	case TopicID:
		m.TopicID = text
		return (text == "" || len(text) == topicIDLength) &&
			!strings.ContainsFunc(text, func(c rune) bool { return c == '.' || !topicCharacter(c) })
	case Time:
		m.Time, err = time.ParseInLocation(p.text, text, m.template.zone)
	}
	return err == nil
}

func parseOffset(text string) (int64, error) {
	if len(text) != offsetDigits || text[0] == '+' || text[0] == '-' {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(text, 10, 64)
}
