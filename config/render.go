package config

import (
	"encoding"
	"reflect"
	"time"
)

// Normalised returns the configuration for encoding as JSON: with the keys of the file,
// all defaults, and secrets hidden. Keys without a value are left out.
func (c *Config) Normalised() any { return render(reflect.ValueOf(*c)) }

func render(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case time.Duration:
		return x.String()
	case OnError:
		if x.DeadLetter == nil {
			return string(x.Action)
		}
	case encoding.TextMarshaler:
		text, _ := x.MarshalText() // those of a Config never fail
		return string(text)
	}
	switch v.Kind() {
	case reflect.Pointer:
		return render(v.Elem())
	case reflect.Struct:
		m := make(map[string]any)
		for i := range v.NumField() {
			key := v.Type().Field(i).Tag.Get("yaml")
			if key != "-" && !unset(v.Field(i)) {
				m[key] = render(v.Field(i))
			}
		}
		return m
	case reflect.Map:
		m := make(map[string]any, v.Len())
		for k, e := range v.Seq2() {
			m[k.String()] = render(e)
		}
		return m
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = render(v.Index(i))
		}
		return list
	}
	return v.Interface()
}

// unset reports whether there is no value. A struct, a number and a boolean always have
// one.
func unset(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Map:
		return v.IsNil()
	case reflect.Slice:
		return v.IsNil()
	case reflect.String:
		return v.Len() == 0
	}
	s, ok := v.Interface().(Secret)
	return ok && !s.IsSet()
}
