package kinds

import (
	"reflect"
	"slices"
	"testing"

	"kcagent/sink"
)

// TestTableHasEveryKindOfTheSpec checks that each field of [sink.Spec] has an entry that
// can open a sink, and that no entry is without a field.
func TestTableHasEveryKindOfTheSpec(t *testing.T) {
	var want, got []string
	spec := reflect.TypeFor[sink.Spec]()
	for i := range spec.NumField() {
		want = append(want, spec.Field(i).Tag.Get("yaml"))
	}
	for _, k := range table {
		got = append(got, k.name)
		if k.open == nil {
			t.Errorf("kind %s cannot be opened", k.name)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the table has the kinds %q, and sink.Spec %q", got, want)
	}
}

func TestSpecWithoutAKindIsRejected(t *testing.T) {
	if s, err := Open(t.Context(), sink.Spec{}, sink.Options{}); err == nil {
		t.Errorf("got %v, want an error", s)
	}
	if err := Check(t.Context(), sink.Spec{}); err == nil {
		t.Error("Check accepts a spec without a kind")
	}
}

func TestConflict(t *testing.T) {
	file := func(path string) sink.Spec { return sink.Spec{File: &sink.FileSpec{Path: path}} }
	stdout := sink.Spec{Stdout: &sink.StdoutSpec{}}
	if Conflict(stdout, stdout) || Conflict(stdout, file("/a")) || Conflict(file("/a"), stdout) {
		t.Error("standard output conflicts")
	}
	if !Conflict(file("/a"), file("/{topic}")) || Conflict(file("/a"), file("/b")) {
		t.Error("files are compared wrongly")
	}
}
