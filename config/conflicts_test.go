package config

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"kcagent/sink/file/filename"
)

// TestPathTreeFindsConflicts: the order of the two paths does not matter.
func TestPathTreeFindsConflicts(t *testing.T) {
	const none, file, folder = "none", "file", "folder"
	type path struct {
		path   string
		topics []string // nil: by a pattern
	}
	add := func(first, second path) string {
		var tree pathTree
		add := func(f *writtenFile) (*writtenFile, bool) { return tree.add(f, pathsOf(f)) }
		entryOf := func(p path) *writtenFile {
			return &writtenFile{entry: &entry{consumer: Consumer{Topics: p.topics}}, file: p.path}
		}
		if other, _ := add(entryOf(first)); other != nil {
			return "a conflict with itself"
		}
		switch other, isFolder := add(entryOf(second)); {
		case other == nil:
			return none
		case isFolder:
			return folder
		}
		return file
	}
	f := func(a, b path, want string) {
		t.Helper()
		if got := add(a, b); got != want {
			t.Errorf("%v, then %v: %s, want %s", a, b, got, want)
		}
		if got := add(b, a); got != want {
			t.Errorf("%v, then %v: %s, want %s", b, a, got, want)
		}
	}
	p := func(s string, topics ...string) path { return path{s, topics} }
	f(p("/d/a"), p("/d/a"), file)
	f(p("/d/a"), p("/d/b"), none)
	f(p("/d/a"), p("/d/a/b"), folder)
	f(p("/d/a"), p("/d/a/b/c"), folder)
	f(p("/d/a"), p("/d/ab/c"), none)
	f(p("/d/{topic}"), p("/d/x/y"), folder)
	f(p("/d/{topic}.log"), p("/d/x/y"), none)
	f(p("/d/{topic}.log"), p("/d/x.log/y"), folder)
	f(p("/d/{topic}", "a", "b"), p("/d/b/y"), folder)
	f(p("/d/{topic}", "a", "b"), p("/d/c/y"), none)
	f(p("/d/{topic}", "a", "b"), p("/d/c"), none)
	f(p("/d/{topic}", "a", "b"), p("/d/b"), file)
	f(p("/d/{topic}"), p("/d/{topic}/{partition}.log"), folder)
	f(p("/d/{topic}", "a"), p("/d/{topic}/{partition}.log", "b"), none)
	f(p("/d/{partition}"), p("/d/7/x"), folder)
	f(p("/d/{time:2006/01}"), p("/d/2026/{topic}", "11"), file)
	f(p("/d/{time:2006/01}"), p("/d/2026/{topic}", "a"), none)
	f(p("/d/{time:2006}"), p("/d/2026/x"), folder)
	f(p("/d/{partition}"), p("/d/7x/x"), none)
	f(p("/d/{partition}"), p("/d/{topic}/x"), folder)
	f(p("/d/{topic}/{partition}.log"), p("/d/{topic}/x-{partition}.log"), none)
	f(p("/d/{topic}/{partition}.log"), p("/d/x/{topic}.log"), file)
	f(p("/d/{topic}/{partition}.log"), p("/d/x/{topic}.json"), none)
	f(p("/d/{topic}/{partition}.log"), p("/d/x/0.log/{topic}"), folder)
	f(p("/{topic}/a"), p("/d/a/b"), folder)
	f(p("/d/{topic}{partition}", "a"), p("/d/{topic}{partition}", "a1"), file)
	f(p("/d/{topic}{partition}", "a"), p("/d/{topic}{partition}", "b"), none)
}

// TestPathTreeFindsWhatAllPairsFind compares the tree with the comparison of
// every pair.
func TestPathTreeFindsWhatAllPairsFind(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	elements := []string{"a", "b", "a1", "ab", "{topic}", "{partition}", "a{topic}", "{topic}1", "a{partition}", "{topic}-{partition}", "x{topic}y"}
	found := 0
	for range 3000 {
		var tree pathTree
		var before []string
		for range 6 {
			var parts []string
			for range 1 + r.IntN(3) {
				parts = append(parts, elements[r.IntN(len(elements))])
			}
			path := "/" + strings.Join(parts, "/")
			want := false
			for _, b := range before {
				want = want || conflicts(path, b)
			}
			f := &writtenFile{entry: &entry{}, file: path}
			other, _ := tree.add(f, pathsOf(f))
			if (other != nil) != want {
				t.Fatalf("%s after %q: conflict %v, want %v", path, before, other != nil, want)
			}
			if !want {
				before = append(before, path)
			} else {
				found++
			}
		}
	}
	if found < 1000 {
		t.Errorf("only %d conflicts were tried", found)
	}
}

// conflicts reports whether a and b may be one file, or one a folder of the other.
func conflicts(a, b string) bool {
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	n := min(len(as), len(bs))
	return filename.Overlap(strings.Join(as[:n], "/"), nil, strings.Join(bs[:n], "/"), nil)
}

// BenchmarkPathTree compares the paths of a thousand consumers of ten topics
// each.
func BenchmarkPathTree(b *testing.B) {
	for _, path := range []string{"/data/{name}.log", "/data/{name}/{topic}-{partition}.log", "/data/{topic}-{partition}.log", "/data/{topic}/{partition}.log"} {
		b.Run(path, func(b *testing.B) {
			var files []*writtenFile
			for i := range 1000 {
				c := Consumer{Name: fmt.Sprint("c", i)}
				for t := range 10 {
					c.Topics = append(c.Topics, fmt.Sprintf("topic.%d.of.%d", t, i))
				}
				files = append(files, &writtenFile{entry: &entry{consumer: c}, file: strings.ReplaceAll(path, "{name}", c.Name)})
			}
			for b.Loop() {
				var tree pathTree
				for _, f := range files {
					if other, _ := tree.add(f, pathsOf(f)); other != nil {
						b.Fatal(other.consumer.Name)
					}
				}
			}
		})
	}
}
