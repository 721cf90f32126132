package retention

import (
	"cmp"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kcagent/logkey"
	"kcagent/sink/file/checkpoint"
	"kcagent/sink/file/disk"
	"kcagent/sink/file/filename"
)

// scan lists the folders of the sink's path for files of this consumer: complete files, and
// growing files of partitions that are not assigned. A file belongs to the consumer if the
// checkpoint beside it says so.
func (k *Keeper) scan() {
	found := make(map[string][]completeFile)
	var growing []string
	err := matchFolders(k.fs, filepath.Dir(k.path), func(dir string) error {
		pattern := filename.Pattern(filepath.Base(k.path))
		return k.fs.List(dir, func(name string, _ uint64) bool {
			if base, at, ok := filename.ParseComplete(name); ok && pattern.MatchString(base) {
				path := filepath.Join(dir, base)
				found[path] = append(found[path], completeFile{filepath.Join(dir, name), at})
			} else if base, ok := strings.CutSuffix(name, filename.CheckpointSuffix); ok && pattern.MatchString(base) {
				growing = append(growing, filepath.Join(dir, base))
			}
			return true
		})
	})
	owner := func(path string) (ours, renamed bool) {
		c, e := checkpoint.Read(k.fs, path)
		other := (*checkpoint.FormatError)(nil)
		if e != nil && !errors.Is(e, checkpoint.ErrDamaged) && !errors.As(e, &other) {
			err = errors.Join(err, e)
		}
		ours = e == nil && c != nil && c.Group == k.group
		return ours, ours && c.Consumer != k.consumer
	}
	orphans := make(map[string]time.Time)
	for _, path := range growing {
		info, e := k.fs.Stat(path)
		if e != nil || info.Size() == 0 || k.files.Serves(path) {
			continue
		}
		if ours, renamed := owner(path); ours && !renamed {
			orphans[path] = info.ModTime()
		}
	}
	former := make(map[string]bool)
	maps.DeleteFunc(found, func(path string, _ []completeFile) bool {
		ours, renamed := owner(path)
		former[path] = renamed
		return !ours
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	k.scanned, k.lastScan = err == nil, k.now()
	if err != nil {
		k.log.Warn("listing the folders of a sink failed", logkey.Path, k.path, logkey.Error, err)
		k.scanAt = k.lastScan.Add(MaxTimer)
	}
	for path, files := range found {
		if former[path] && !k.assigned[path] {
			k.renamed[path] = files
			continue
		}
		k.complete[path] = mergeComplete(files, k.complete[path])
	}
	for path, since := range orphans {
		if _, known := k.unassigned[path]; !known && !k.files.Serves(path) {
			k.unassigned[path] = since
		}
	}
}

// mergeComplete merges two lists without repeats, the oldest file first.
func mergeComplete(a, b []completeFile) []completeFile {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(a, b completeFile) int { return strings.Compare(a.path, b.path) })
	all = slices.Compact(all)
	slices.SortStableFunc(all, func(a, b completeFile) int { return a.at.Compare(b.at) })
	return all
}

// matchFolders calls each with every folder that matches a pattern with placeholders.
func matchFolders(fsys disk.FS, pattern string, each func(dir string) error) error {
	elements := strings.Split(pattern, string(filepath.Separator))
	open := slices.IndexFunc(elements, filename.HasPlaceholders)
	if open < 0 {
		return ignoreMissing(each(pattern))
	}
	parent := strings.Join(elements[:open], string(filepath.Separator))
	if parent == "" && filepath.IsAbs(pattern) {
		parent = string(filepath.Separator)
	}
	match := filename.Pattern(elements[open])
	var names []string
	err := fsys.List(cmp.Or(parent, "."), func(name string, _ uint64) bool {
		if match.MatchString(name) {
			names = append(names, name)
		}
		return true
	})
	for _, name := range names {
		dir := filepath.Join(parent, name)
		if info, e := fsys.Stat(dir); e != nil || !info.IsDir() {
			continue
		}
		below := filepath.Join(append([]string{dir}, elements[open+1:]...)...)
		err = errors.Join(err, matchFolders(fsys, below, each))
	}
	return ignoreMissing(err)
}

func ignoreMissing(err error) error {
	if disk.IsNotExist(err) {
		return nil
	}
	return err
}
