package agent

import (
	"reflect"
	"slices"
	"strings"

	"kcagent/config"
)

// diff names the fields in which two consumers differ, as a user writes them
// in the file (sink.file.path), sorted. A field that one of them lacks
// altogether counts as one field with its whole block.
func diff(a, b config.Consumer) []string {
	var fields []string
	walk("", reflect.ValueOf(a), reflect.ValueOf(b), &fields)
	slices.Sort(fields)
	return slices.Compact(fields)
}

func walk(path string, a, b reflect.Value, out *[]string) {
	if a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil() {
		a, b = a.Elem(), b.Elem()
	}
	if a.Kind() != reflect.Struct || !hasTags(a.Type()) {
		if !reflect.DeepEqual(a.Interface(), b.Interface()) {
			*out = append(*out, path)
		}
		return
	}
	for i := range a.NumField() {
		walk(join(path, a.Type(), a.Type().Field(i)), a.Field(i), b.Field(i), out)
	}
}

// hasTags tells the blocks of the file from opaque values such as a Start or a
// Secret, which have no fields of their own in it.
func hasTags(t reflect.Type) bool {
	for f := range t.Fields() {
		if f.Tag.Get("yaml") != "" {
			return true
		}
	}
	return false
}

func join(path string, block reflect.Type, f reflect.StructField) string {
	tag := f.Tag.Get("yaml")
	switch {
	case f.Name == "Brokers" && block == reflect.TypeFor[config.Consumer]():
		// A consumer's own brokers are a nameless cluster; what they resolved
		// to is compared with the cluster's fields.
		return "cluster"
	case tag == "-": // the resolved cluster: its fields stand at the top
		return ""
	case path == "":
		return tag
	}
	return path + "." + tag
}

// What a changed field costs a running consumer. A field that is not listed, a
// new one above all, costs a replace, which is always right.
const (
	costLive         = iota // taken over without leaving the group
	costSubscription        // the same member joins again
	costReplace
)

var costs = map[string]int{
	"state":                 costLive, // what it costs depends on the states
	"cluster":               costLive, // only the name: the content is compared field by field
	"fetch":                 costLive,
	"rack":                  costLive,
	"flush":                 costLive,
	"max_partition_bytes":   costLive,
	"stall_timeout":         costLive,
	"sink.file.rotate":      costLive,
	"sink.file.compression": costLive,
	"sink.file.durability":  costLive,
	"sink.file.mode":        costLive,
	"topics":                costSubscription,
	"topics_regex":          costSubscription,
}

func costOf(field string) int {
	for f := field; f != ""; f = f[:max(0, strings.LastIndexByte(f, '.'))] {
		if cost, ok := costs[f]; ok {
			return cost
		}
	}
	return costReplace
}
