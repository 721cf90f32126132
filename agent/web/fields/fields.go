// Package fields encodes structs as JSON with only the fields that a client selected. So a
// program that shows the names of a thousand consumers does not pay for their partitions.
package fields

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Type has the names of the JSON fields of a struct, and of the structs in it.
type Type struct{ fields []field }

type field struct {
	name      string
	index     int
	omitEmpty bool
	of        *Type // nil unless the field is a struct, a pointer to one or a list of them
}

// Of returns the fields of the struct T, whose fields all have json tags.
func Of[T any]() *Type { return typeOf(reflect.TypeFor[T]()) }

// typeOf returns nil for a type without selectable fields.
func typeOf(t reflect.Type) *Type {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Time]() {
		return nil
	}
	fields := make([]field, t.NumField())
	for i := range fields {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields[i] = field{name, i, options == "omitempty", typeOf(t.Field(i).Type)}
	}
	return &Type{fields}
}

// Names returns the names of the fields, in their order.
func (t *Type) Names() []string {
	names := make([]string, len(t.fields))
	for i, f := range t.fields {
		names[i] = f.name
	}
	return names
}

// A Selection is some fields of a [Type]. It is not changed after Select has returned it.
type Selection struct {
	of       *Type
	selected []*Selection // by field, nil for one that is not selected; of itself nil: everything
}

// All is every field of every type.
var All = &Selection{}

// Select returns the fields with these names, such as summary, consumers.name or
// consumers.partitions.lag. The error for an unknown name lists the valid ones.
func (t *Type) Select(names []string) (*Selection, error) {
	s := &Selection{t, make([]*Selection, len(t.fields))}
	for _, name := range names {
		if err := s.add(name, "", name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// add selects the field at rest, which is below the field parent of the whole type.
func (s *Selection) add(name, parent, rest string) error {
	first, rest, nested := strings.Cut(rest, ".")
	for i, f := range s.of.fields {
		switch {
		case f.name != first:
			continue
		case !nested:
			s.selected[i] = All
			return nil
		case f.of == nil:
			return fmt.Errorf("unknown field %s: %s has no fields", strconv.Quote(name), parent+first)
		}
		if s.selected[i] == nil {
			s.selected[i] = &Selection{f.of, make([]*Selection, len(f.of.fields))}
		}
		below := s.selected[i]
		if below == All {
			below = &Selection{f.of, make([]*Selection, len(f.of.fields))} // only checks the name
		}
		return below.add(name, parent+first+".", rest)
	}
	for _, f := range s.of.fields {
		if f.of != nil && slices.Contains(f.of.Names(), first) {
			return fmt.Errorf("unknown field %s: did you mean %s?", strconv.Quote(name), parent+f.name+"."+first)
		}
	}
	valid := strings.Join(s.of.Names(), ", "+parent)
	return fmt.Errorf("unknown field %s: use one or more of %s", strconv.Quote(name), parent+valid)
}

// Below returns what is selected of a field; nil if nothing is.
func (s *Selection) Below(field string) *Selection {
	switch {
	case s == nil:
		return nil
	case s.selected == nil:
		return All
	}
	for i, f := range s.of.fields {
		if f.name == field {
			return s.selected[i]
		}
	}
	return nil
}

// Has reports whether a field or a part of it is selected.
func (s *Selection) Has(field string) bool { return s.Below(field) != nil }

// Append appends the selected fields of v as compact JSON. v is a pointer to a struct of
// the selection's type or to a list of them.
func (s *Selection) Append(to *bytes.Buffer, v any) error {
	enc := json.NewEncoder(to)
	enc.SetEscapeHTML(false) // the response is not HTML, and people read it
	return s.append(to, enc, reflect.ValueOf(v))
}

func (s *Selection) append(to *bytes.Buffer, enc *json.Encoder, v reflect.Value) error {
	if s.selected == nil {
		err := enc.Encode(v.Interface())
		to.Truncate(max(to.Len()-1, 0)) // the newline
		return err
	}
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			to.WriteString("null")
			return nil
		}
		v = v.Elem()
	}
	if v.Kind() == reflect.Slice {
		to.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				to.WriteByte(',')
			}
			if err := s.append(to, enc, v.Index(i)); err != nil {
				return err
			}
		}
		to.WriteByte(']')
		return nil
	}
	return s.appendStruct(to, enc, v)
}

func (s *Selection) appendStruct(to *bytes.Buffer, enc *json.Encoder, v reflect.Value) error {
	separator := byte('{')
	for i, f := range s.of.fields {
		if s.selected[i] == nil || f.omitEmpty && v.Field(f.index).IsZero() {
			continue
		}
		to.WriteByte(separator)
		separator = ','
		to.WriteByte('"')
		to.WriteString(f.name)
		to.WriteString(`":`)
		if err := s.selected[i].append(to, enc, v.Field(f.index).Addr()); err != nil {
			return err
		}
	}
	if separator == '{' {
		to.WriteByte('{')
	}
	to.WriteByte('}')
	return nil
}
