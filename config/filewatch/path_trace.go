package filewatch

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// A pathTrace is how a path leads to a file: these names in these directories. The
// directories are real paths without symbolic links.
type pathTrace struct {
	names   map[string]bool
	dirs    []string // hold the file, a link that leads to it, or should hold either
	parents []string // only hold the next directory
	file    string   // the real path; "" if the path leads nowhere
}

func (t pathTrace) equal(o pathTrace) bool {
	return t.file == o.file && slices.Equal(t.dirs, o.dirs) &&
		slices.Equal(t.parents, o.parents) && maps.Equal(t.names, o.names)
}

// tracePath resolves a path from the root as the kernel would, one name after the other.
func tracePath(path string) pathTrace {
	const maxLinks = 40 // as in the kernel; more are a loop
	t := pathTrace{names: map[string]bool{}}
	dir, rest := root(path), split(path)
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			dir = filepath.Dir(dir)
			continue
		}
		t.names[name] = true
		next := filepath.Join(dir, name)
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			t.dirs = include(t.dirs, dir)
			return t
		case info.Mode()&fs.ModeSymlink != 0:
			t.dirs = include(t.dirs, dir)
			target, err := os.Readlink(next)
			if links++; err != nil || links > maxLinks {
				return t
			}
			if filepath.IsAbs(target) {
				dir = root(target)
			}
			rest = append(split(target), rest...)
		case info.IsDir() && len(rest) > 0:
			// On other systems a watch opens every file of its directory.
			if runtime.GOOS == "linux" {
				t.parents = include(t.parents, dir)
			}
			dir = next
		default:
			t.dirs = include(t.dirs, dir)
			dir = next
		}
	}
	t.file = dir
	return t
}

func root(path string) string {
	return filepath.VolumeName(path) + string(filepath.Separator)
}

// split cuts a path into its names.
func split(path string) []string {
	path = path[len(filepath.VolumeName(path)):]
	return slices.DeleteFunc(strings.Split(path, string(filepath.Separator)), func(name string) bool {
		return name == "" || name == "."
	})
}

func include(dirs []string, dir string) []string {
	if slices.Contains(dirs, dir) {
		return dirs
	}
	return append(dirs, dir)
}
