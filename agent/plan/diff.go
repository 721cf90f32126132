package plan

import (
	"reflect"
	"slices"
	"strings"

	"kcagent/config"
)

// diff returns the fields in which two specs differ, as in the file (sink.file.path), sorted.
// A block that one of them does not have counts as one field.
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

// hasTags reports whether a type is a block of the file. A Start or a Secret is not: the
// file has no fields for what is in it.
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
		// A consumer's own brokers are a cluster without a name. Their addresses are
		// compared with the fields of the cluster.
		return "cluster"
	case tag == "-" && block == reflect.TypeFor[config.Consumer](): // the resolved cluster: its fields are named without a prefix
		return ""
	case tag == "-": // a text that is written in place of the block
		return path
	case path == "":
		return tag
	}
	return path + "." + tag
}

// The costs of a changed field for a running consumer. A field that is not in costs, such as
// a new one, costs a replace, which is always correct.
const (
	costLive         = iota // applied without leaving the group
	costSubscription        // the same member rejoins
	costReplace
)

var costs = map[string]int{
	"state":                    costLive, // compare decides
	"cluster":                  costLive, // the name alone: the fields of the cluster are compared one by one
	"fetch":                    costLive,
	"rack":                     costLive,
	"flush":                    costLive,
	"max_partition_bytes":      costLive,
	"stall_timeout":            costLive,
	"sink.file.rotate":         costLive,
	"sink.file.compression":    costLive,
	"sink.file.durability":     costLive,
	"sink.file.mode":           costLive,
	"sink.objects.rotate":      costLive,
	"sink.objects.compression": costLive,
	"topics":                   costSubscription,
	"topics_regex":             costSubscription,
}

func costOf(field string) int {
	for f := field; f != ""; f = f[:max(0, strings.LastIndexByte(f, '.'))] {
		if cost, ok := costs[f]; ok {
			return cost
		}
	}
	return costReplace
}
