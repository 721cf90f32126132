package verify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// checkpointSuffix ends the names of files that hold no records. The file sink writes them
// beside the data.
const checkpointSuffix = "+checkpoint"

// sidecars is the folder in which the objects sink keeps the metadata of objects in a folder.
const sidecars = ".kcagent"

// Files returns the files that the arguments name: a file, all files below a folder without
// the checkpoints and sidecars of sinks, or the files that match a pattern such as /data/*.jsonl, for shells
// that do not expand it.
func Files(args []string) ([]string, error) {
	var files []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		found := []string{arg}
		switch {
		case err == nil && info.IsDir():
			found, err = below(arg)
		case errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(arg, "*?["):
			found, err = matching(arg)
		}
		if err != nil { // stat names the path
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

// below returns the files below a folder, which may be a symbolic link. Links in the folder
// are left out, because they name a file a second time.
func below(dir string) (files []string, err error) {
	err = filepath.WalkDir(dir+string(filepath.Separator), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && e.Name() == sidecars {
			return fs.SkipDir
		}
		if err == nil && e.Type().IsRegular() && !strings.HasSuffix(path, checkpointSuffix) {
			files = append(files, path)
		}
		return err
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("list %s: the folder has no files", dir)
	}
	return files, err
}

// matching returns the files that match a pattern.
func matching(pattern string) ([]string, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("invalid pattern %q: %w", pattern, err)
	}
	files = slices.DeleteFunc(files, func(path string) bool {
		info, err := os.Stat(path)
		return err != nil || info.IsDir() || strings.HasSuffix(path, checkpointSuffix)
	})
	if len(files) == 0 {
		return nil, fmt.Errorf("no file matches %q", pattern)
	}
	return files, nil
}

// Same returns the first two of the files that are one file, named twice or through a
// link; "" if there are none.
func Same(files []string) (first, second string) {
	type id struct{ dev, ino uint64 }
	seen := make(map[id]string)
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		this := id{stat.Dev, stat.Ino}
		if other, ok := seen[this]; ok {
			return other, path
		}
		seen[this] = path
	}
	return "", ""
}
