package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Decode stores n in the value that v points to, and reports everything that does not
// fit. path is that of n. Structs name their keys by yaml tags; types may implement
// [encoding.TextUnmarshaler], whose error text is "message: hint", or list their legal
// texts by a method Values. A method SetDefaults sets the values of keys that the document
// leaves out, so that an explicit zero is not replaced by a default.
//
// The decoder of the YAML library reports no columns, ends at the first problem, and loses
// strictness below a custom unmarshaler.
func (d *Document) Decode(n *yaml.Node, path string, v any) {
	d.decode(n, path, reflect.ValueOf(v).Elem())
}

func (d *Document) decode(n *yaml.Node, path string, v reflect.Value) {
	if d.broken[n] {
		return
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" && !d.expanded[n] {
		hint := "set a value, or remove the key"
		switch {
		case v.Kind() == reflect.Pointer:
			hint = "write {} for the defaults, or remove the key"
		case n.Value != "":
			hint = "quote it if it is a text, or remove it"
		}
		d.Report(n, path, "missing value", hint)
		return
	}
	if n.Kind == yaml.ScalarNode && d.leftover(n, path) {
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if s, ok := v.Addr().Interface().(interface{ SetDefaults() }); ok {
		s.SetDefaults()
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		d.decodeDuration(n, path, v)
	case isText(v) && !(n.Kind == yaml.MappingNode && v.Kind() == reflect.Struct && hasKeys(v.Type())):
		d.decodeText(n, path, v)
	case v.Kind() == reflect.Struct:
		d.decodeStruct(n, path, v)
	case v.Kind() == reflect.Map:
		d.decodeMap(n, path, v)
	case v.Kind() == reflect.Slice:
		d.decodeSlice(n, path, v)
	default:
		d.decodeScalar(n, path, v)
	}
}

func isText(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok
}

// hasKeys reports whether a type may be a block. One that is a text as well is written as
// either.
func hasKeys(t reflect.Type) bool {
	return slices.ContainsFunc(keysOf(t), func(key string) bool { return key != "" && key != "-" })
}

// expect reports a node of the wrong kind.
func (d *Document) expect(n *yaml.Node, path, what, hint string) {
	d.Report(n, path, "expected "+what+", found "+KindOf(n), hint)
}

func (d *Document) decodeStruct(n *yaml.Node, path string, v reflect.Value) {
	keys := keysOf(v.Type())
	if n.Kind != yaml.MappingNode {
		known := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return key == "" || key == "-" })
		for _, key := range known {
			d.reported[Join(path, key)] = true // not reported as missing, too
		}
		d.expect(n, path, "a mapping", "write {KEY: VALUE}; the keys are "+strings.Join(known, ", "))
		return
	}
	d.blocks = append(d.blocks, keys)
	defer func() { d.blocks = d.blocks[:len(d.blocks)-1] }()
	for key, value := range Pairs(n) {
		i := slices.Index(keys, key.Value)
		if i < 0 || key.Value == "-" || key.Value == "" {
			if block := emptyBlockFor(key.Value, n, v.Type()); block != "" {
				d.Report(key, Join(path, key.Value), "unknown key", "indent it further than "+block+", to which it belongs")
				continue
			}
			d.UnknownKey(key, path, keys)
			continue
		}
		d.decode(value, Join(path, key.Value), v.Field(i))
	}
}

// keysOf lists the keys of a block in the order of its fields; "-" for a field that is not
// part of the file.
func keysOf(t reflect.Type) []string {
	keys := make([]string, 0, t.NumField())
	for f := range t.Fields() {
		keys = append(keys, f.Tag.Get("yaml"))
	}
	return keys
}

// emptyBlockFor returns the key of a block without content in n that has the given key:
// usually the block that the key was meant for; "" if there is none.
func emptyBlockFor(key string, n *yaml.Node, t reflect.Type) string {
	for f := range t.Fields() {
		name, of := f.Tag.Get("yaml"), f.Type
		if of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		block := Child(n, name)
		if block != nil && block.Tag == "!!null" && of.Kind() == reflect.Struct && slices.Contains(keysOf(of), key) {
			return name
		}
	}
	return ""
}

func parentOf(path string) string { return path[:max(strings.LastIndexByte(path, '.'), 0)] }

// UnknownKey reports a key of the block at path that is not among its keys.
func (d *Document) UnknownKey(key *yaml.Node, path string, keys []string) {
	near := Nearest(key.Value, keys)
	hint := didYouMean(near)
	if near == "" {
		hint = d.options.OtherKeys[key.Value]
	}
	for _, outer := range d.blocks[:max(len(d.blocks)-1, 0)] {
		if near == "" && slices.Contains(outer, key.Value) && key.Value != "-" {
			hint = "indent it less: it is a key of the block around this one"
			d.reported[Join(parentOf(path), key.Value)] = true
		}
	}
	if d.options.Ignore(key.Value) {
		hint = "keys that begin with x- are ignored at the top level only"
	}
	d.Report(key, Join(path, key.Value), "unknown key", hint)
	if near != "" {
		d.reported[Join(path, near)] = true // not reported as missing, too
	}
}

func (d *Document) decodeMap(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.expect(n, path, "a mapping", "")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for key, value := range Pairs(n) {
		e := reflect.New(v.Type().Elem()).Elem()
		d.decode(value, Join(path, key.Value), e)
		v.SetMapIndex(reflect.ValueOf(key.Value), e)
	}
}

func (d *Document) decodeSlice(n *yaml.Node, path string, v reflect.Value) {
	if v.Type().Elem().Kind() == reflect.String {
		d.splitVariables(n)
	}
	if n.Kind != yaml.SequenceNode {
		d.expect(n, path, "a list", listHint(n))
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, e := range n.Content {
		d.decode(e, path+"["+strconv.Itoa(i)+"]", s.Index(i))
	}
	v.Set(s)
}

// splitVariables splits texts of variables at commas, because a variable cannot hold a
// list: [${BROKERS}] and ${BROKERS} are as many elements as the variable names.
func (d *Document) splitVariables(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && d.expanded[n] {
		element := *n
		d.expanded[&element] = true
		if at, ok := d.inherited[n]; ok {
			d.inherited[&element] = at
		}
		n.Kind, n.Tag, n.Value, n.Content = yaml.SequenceNode, "!!seq", "", []*yaml.Node{&element}
	}
	if n.Kind != yaml.SequenceNode {
		return
	}
	elements := make([]*yaml.Node, 0, len(n.Content))
	for _, e := range n.Content {
		if e.Kind != yaml.ScalarNode || !d.expanded[e] || d.broken[e] {
			elements = append(elements, e)
			continue
		}
		for part := range strings.SplitSeq(e.Value, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			c := *e
			c.Value = part
			d.expanded[&c] = true
			if at, ok := d.inherited[e]; ok {
				d.inherited[&c] = at
			}
			elements = append(elements, &c)
		}
	}
	n.Content = elements
}

func (d *Document) decodeText(n *yaml.Node, path string, v reflect.Value) {
	_, secret := v.Interface().(interface{ Reveal() string })
	switch {
	case n.Kind != yaml.ScalarNode:
		d.expect(n, path, "a text", d.quoteHint(n, path))
	case secret && !d.isString(n):
		d.expect(n, path, "a text", d.quoteHint(n, path))
	default:
		text := n.Value
		if secret {
			text = strings.TrimRight(text, "\r\n") // as at the end of a file that holds one
		}
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
			message, hint, _ := strings.Cut(err.Error(), ": ")
			d.Report(n, path, message, hint)
		}
	}
}

func (d *Document) decodeDuration(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.expect(n, path, "a duration", "use a duration such as 500ms, 1s or 2h30m")
		return
	}
	duration, err := time.ParseDuration(n.Value)
	switch {
	case err != nil:
		d.Report(n, path, "invalid duration "+strconv.Quote(n.Value), durationHint(n.Value))
	case duration < 0:
		d.Report(n, path, "invalid duration "+strconv.Quote(n.Value)+": it is negative", "")
	}
	v.SetInt(int64(duration))
}

var otherDuration = regexp.MustCompile(`^(\d+) *([A-Za-z]*)$`)

// durationHint returns how to write a duration that has no unit, or one of other programs.
func durationHint(text string) string {
	if m := otherDuration.FindStringSubmatch(text); m != nil {
		n, err := strconv.Atoi(m[1])
		unit := strings.ToLower(m[2])
		switch {
		case err != nil || n > 1e6:
		case unit == "":
			return "add a unit: " + m[1] + "s or " + m[1] + "ms"
		case strings.HasPrefix("days", unit):
			return fmt.Sprintf("write %dh", 24*n)
		case strings.HasPrefix("weeks", unit):
			return fmt.Sprintf("write %dh", 7*24*n)
		case strings.HasPrefix("hours", unit) || unit == "hrs":
			return "write " + m[1] + "h"
		case strings.HasPrefix("minutes", unit) || unit == "mins":
			return "write " + m[1] + "m"
		case strings.HasPrefix("seconds", unit) || unit == "secs":
			return "write " + m[1] + "s"
		}
	}
	return "use a duration such as 500ms, 1s or 2h30m"
}

// isString reports whether a scalar is a text. A plain 2024 or true is not, but the value
// of a variable may be used as any type.
func (d *Document) isString(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && (n.Tag == "!!str" || d.expanded[n])
}

func (d *Document) decodeScalar(n *yaml.Node, path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if _, enum := v.Interface().(interface{ Values() []string }); !d.isString(n) && (!enum || n.Kind != yaml.ScalarNode) {
			d.expect(n, path, "a text", d.quoteHint(n, path))
			return
		}
		v.SetString(n.Value)
		d.checkEnum(n, path, v)
	case reflect.Int:
		i, err := strconv.Atoi(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || n.Tag != "!!int" && !d.expanded[n] {
			d.expect(n, path, "a whole number", "")
			return
		}
		v.SetInt(int64(i))
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || n.Tag != "!!bool" && !d.expanded[n] {
			d.expect(n, path, "true or false", "")
			return
		}
		v.SetBool(b)
	default:
		panic("strictyaml: cannot decode a " + v.Type().String())
	}
}

// quoteHint returns the hint for a value that YAML reads as another type than a text.
func (d *Document) quoteHint(n *yaml.Node, path string) string {
	switch {
	case d.options.Kind(path) == Secret:
		return "quote it"
	case n.Kind == yaml.ScalarNode:
		return "quote it: " + strconv.Quote(n.Value)
	case n.Kind == yaml.MappingNode && len(n.Content) == 2 && n.Content[1].Tag == "!!null" && n.Content[1].Value == "":
		return "quote a text with a placeholder: " + strconv.Quote("{"+n.Content[0].Value+"}")
	}
	return ""
}

// checkEnum reports a text that is not among the values of its type.
func (d *Document) checkEnum(n *yaml.Node, path string, v reflect.Value) {
	e, ok := v.Interface().(interface{ Values() []string })
	if !ok || slices.Contains(e.Values(), n.Value) {
		return
	}
	d.Report(n, path, "invalid value "+strconv.Quote(n.Value)+": must be one of "+strings.Join(e.Values(), ", "), Suggest(n.Value, e.Values()))
}
