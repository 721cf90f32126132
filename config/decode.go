package config

import (
	"encoding"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// decode stores n in v and reports whatever does not fit, without ending: all
// that is wrong is to be told at once. The YAML library's own decoder gives no
// columns, stops early, and forgets strictness below a custom unmarshaler.
func (p *parser) decode(n *yaml.Node, path string, v reflect.Value) {
	if p.broken[n] {
		return
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" && !p.flexible[n] {
		hint := "leave the key out if nothing is meant"
		if v.Kind() == reflect.Pointer {
			hint = "write {} for its defaults, or leave the key out"
		}
		p.report(n, path, "has no value", hint)
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		p.decodeDuration(n, path, v)
	case isText(v):
		p.decodeText(n, path, v)
	case v.Kind() == reflect.Struct:
		p.decodeStruct(n, path, v)
	case v.Kind() == reflect.Map:
		p.decodeMap(n, path, v)
	case v.Kind() == reflect.Slice:
		p.decodeSlice(n, path, v)
	default:
		p.decodeScalar(n, path, v)
	}
}

func isText(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok
}

// expect reports a node of the wrong kind.
func (p *parser) expect(n *yaml.Node, path, what, hint string) {
	p.report(n, path, "expected "+what+", found "+kindOf(n), hint)
}

func (p *parser) decodeStruct(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		p.expect(n, path, "a mapping", "")
		return
	}
	keys := keysOf(v.Type())
	for key, value := range pairs(n) {
		i := slices.Index(keys, key.Value)
		if i < 0 || key.Value == "-" || key.Value == "" {
			p.unknown(key, path, keys)
			continue
		}
		p.decode(value, below(path, key.Value), v.Field(i))
	}
}

// keysOf lists the keys of a block in the order of its fields; "-" for a field
// that is not in the file.
func keysOf(t reflect.Type) []string {
	keys := make([]string, 0, t.NumField())
	for f := range t.Fields() {
		keys = append(keys, f.Tag.Get("yaml"))
	}
	return keys
}

func (p *parser) unknown(key *yaml.Node, path string, keys []string) {
	near := nearest(key.Value, keys)
	p.report(key, below(path, key.Value), "unknown key", didYouMean(near))
	if near != "" {
		p.told[below(path, near)] = true // that it is missing need not be told, too
	}
}

func (p *parser) decodeMap(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		p.expect(n, path, "a mapping", "")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for key, value := range pairs(n) {
		e := reflect.New(v.Type().Elem()).Elem()
		p.decode(value, below(path, key.Value), e)
		v.SetMapIndex(reflect.ValueOf(key.Value), e)
	}
}

func (p *parser) decodeSlice(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		p.expect(n, path, "a list", "put it in brackets: [ … ]")
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, e := range n.Content {
		p.decode(e, path+"["+strconv.Itoa(i)+"]", s.Index(i))
	}
	v.Set(s)
}

func (p *parser) decodeText(n *yaml.Node, path string, v reflect.Value) {
	_, secret := v.Addr().Interface().(*Secret)
	switch {
	case n.Kind != yaml.ScalarNode:
		p.expect(n, path, "a text", "")
	case secret && !p.isString(n):
		p.expect(n, path, "a text", "put it in quotes")
	default:
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
			message, hint, _ := strings.Cut(err.Error(), ": ")
			p.report(n, path, message, hint)
		}
	}
}

func (p *parser) decodeDuration(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		p.expect(n, path, "a duration", "write it like 500ms, 1s or 2h30m")
		return
	}
	d, err := time.ParseDuration(n.Value)
	switch {
	case err != nil:
		p.report(n, path, strconv.Quote(n.Value)+" is no duration", "write it like 500ms, 1s or 2h30m")
	case d < 0:
		p.report(n, path, strconv.Quote(n.Value)+" is a negative duration", "")
	}
	v.SetInt(int64(d))
}

// isString reports whether a scalar is a text: a plain 2024 or true is not,
// but what a variable stands for may be anything.
func (p *parser) isString(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && (n.Tag == "!!str" || p.flexible[n])
}

func (p *parser) decodeScalar(n *yaml.Node, path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if !p.isString(n) {
			hint := ""
			if n.Kind == yaml.ScalarNode {
				hint = "put it in quotes"
			}
			p.expect(n, path, "a text", hint)
			return
		}
		v.SetString(n.Value)
		p.checkEnum(n, path, v)
	case reflect.Int:
		i, err := strconv.Atoi(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || n.Tag != "!!int" && !p.flexible[n] {
			p.expect(n, path, "a whole number", "")
			return
		}
		v.SetInt(int64(i))
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || n.Tag != "!!bool" && !p.flexible[n] {
			p.expect(n, path, "true or false", "")
			return
		}
		v.SetBool(b)
	default:
		panic("config: no way to decode a " + v.Type().String())
	}
}

// checkEnum refuses a text that is none of its type's values.
func (p *parser) checkEnum(n *yaml.Node, path string, v reflect.Value) {
	e, ok := v.Interface().(interface{ Values() []string })
	if !ok || slices.Contains(e.Values(), n.Value) {
		return
	}
	p.report(n, path, strconv.Quote(n.Value)+" is none of "+strings.Join(e.Values(), ", "), meant(n.Value, e.Values()))
}

// meant is "did you mean …" for a near miss, else empty.
func meant(word string, known []string) string { return didYouMean(nearest(word, known)) }

func didYouMean(word string) string {
	if word == "" {
		return ""
	}
	return "did you mean " + strconv.Quote(word) + "?"
}

func nearest(word string, known []string) string {
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

// editDistance counts the letters to add, drop, change or swap with their
// neighbour.
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
