package sink

import "testing"

func TestConflict(t *testing.T) {
	file := func(path string) Spec { return Spec{File: &FileSpec{Path: path}} }
	stdout := Spec{Stdout: &StdoutSpec{}}
	if Conflict(stdout, stdout) || Conflict(stdout, file("/a")) || Conflict(file("/a"), stdout) {
		t.Error("standard output conflicts")
	}
	if !Conflict(file("/a"), file("/{topic}")) || Conflict(file("/a"), file("/b")) {
		t.Error("files are compared wrongly")
	}
}
