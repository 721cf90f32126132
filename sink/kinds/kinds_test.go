package kinds

import (
	"testing"

	"kcagent/sink"
)

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
