package strictyaml

import (
	"encoding"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Decode stores n in the value that v points to, and reports everything that does not
// fit. path is that of n. Structs name their keys by yaml tags; types may implement
// [encoding.TextUnmarshaler], whose error text is "message: hint", or list their legal
// texts by a method Values. The decoder of the YAML library gives no columns, ends at the
// first problem, and loses strictness below a custom unmarshaler.
func (d *Document) Decode(n *yaml.Node, path string, v any) {
	d.decode(n, path, reflect.ValueOf(v).Elem())
}

func (d *Document) decode(n *yaml.Node, path string, v reflect.Value) {
	if d.broken[n] {
		return
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" && !d.expanded[n] {
		hint := "set a value, or remove the key"
		if v.Kind() == reflect.Pointer {
			hint = "write {} for the defaults, or remove the key"
		}
		d.Report(n, path, "missing value", hint)
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		d.decodeDuration(n, path, v)
	case isText(v):
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

// expect reports a node of the wrong kind.
func (d *Document) expect(n *yaml.Node, path, what, hint string) {
	d.Report(n, path, "expected "+what+", found "+KindOf(n), hint)
}

func (d *Document) decodeStruct(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.expect(n, path, "a mapping", "")
		return
	}
	keys := keysOf(v.Type())
	for key, value := range Pairs(n) {
		i := slices.Index(keys, key.Value)
		if i < 0 || key.Value == "-" || key.Value == "" {
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

// UnknownKey reports a key of the block at path that is not among its keys.
func (d *Document) UnknownKey(key *yaml.Node, path string, keys []string) {
	near := Nearest(key.Value, keys)
	d.Report(key, Join(path, key.Value), "unknown key", didYouMean(near))
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
	if n.Kind != yaml.SequenceNode {
		d.expect(n, path, "a list", "write it in brackets: [ … ]")
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, e := range n.Content {
		d.decode(e, path+"["+strconv.Itoa(i)+"]", s.Index(i))
	}
	v.Set(s)
}

func (d *Document) decodeText(n *yaml.Node, path string, v reflect.Value) {
	_, secret := v.Interface().(interface{ Reveal() string })
	switch {
	case n.Kind != yaml.ScalarNode:
		d.expect(n, path, "a text", "")
	case secret && !d.isString(n):
		d.expect(n, path, "a text", "quote it")
	default:
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
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
		d.Report(n, path, "invalid duration "+strconv.Quote(n.Value), "use a duration such as 500ms, 1s or 2h30m")
	case duration < 0:
		d.Report(n, path, "invalid duration "+strconv.Quote(n.Value)+": it is negative", "")
	}
	v.SetInt(int64(duration))
}

// isString reports whether a scalar is a text. A plain 2024 or true is not, but the value
// of a variable may be used as any type.
func (d *Document) isString(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && (n.Tag == "!!str" || d.expanded[n])
}

func (d *Document) decodeScalar(n *yaml.Node, path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if !d.isString(n) {
			hint := ""
			if n.Kind == yaml.ScalarNode {
				hint = "quote it"
			}
			d.expect(n, path, "a text", hint)
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

// checkEnum reports a text that is not among the values of its type.
func (d *Document) checkEnum(n *yaml.Node, path string, v reflect.Value) {
	e, ok := v.Interface().(interface{ Values() []string })
	if !ok || slices.Contains(e.Values(), n.Value) {
		return
	}
	d.Report(n, path, "invalid value "+strconv.Quote(n.Value)+": must be one of "+strings.Join(e.Values(), ", "), Suggest(n.Value, e.Values()))
}
