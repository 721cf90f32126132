package filename

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Finder finds the data files of consumers on this host. It lists each folder only once,
// so a new one is needed for each command.
type Finder struct {
	folders  map[string][]string
	compared int // number of names that were compared
}

// maxCompared limits the work of a Finder, so that a folder with very many files delays no
// command.
const maxCompared = 200_000

// Checkpointed returns at most limit paths of data files that have a checkpoint and that a
// consumer of the topics may write. path has placeholders of topics and partitions. Nil
// topics stand for those for which reads returns true.
func (f *Finder) Checkpointed(path string, topics []string, reads func(topic string) bool, limit int) []string {
	var found []string
	for _, p := range fillTopics(TimePattern(filepath.Clean(path)), topics) {
		s := search{Finder: f, subscribed: reads, limit: limit, found: found}
		dir := ""
		if filepath.IsAbs(p) {
			dir = string(filepath.Separator)
		}
		s.walk(dir, strings.Split(strings.TrimPrefix(p, dir), string(filepath.Separator)), "")
		found = s.found
	}
	return found
}

// A search searches for the files of one path.
type search struct {
	*Finder
	subscribed func(topic string) bool
	limit      int
	found      []string
}

// walk follows the elements of a path below dir. topic is the topic in earlier elements; ""
// if they have none.
func (s *search) walk(dir string, elements []string, topic string) {
	if len(s.found) >= s.limit {
		return
	}
	element, last := elements[0], len(elements) == 1
	if topic != "" {
		element = strings.ReplaceAll(element, topicPlaceholder, topic)
	}
	if !HasPlaceholders(element) {
		path := filepath.Join(dir, element)
		if !last {
			s.walk(path, elements[1:], topic)
		} else if _, err := os.Lstat(path + CheckpointSuffix); err == nil {
			s.found = append(s.found, path)
		}
		return
	}
	head, _, _ := strings.Cut(element, "{")
	names := s.list(dir)
	at, _ := slices.BinarySearch(names, head)
	pattern := Pattern(element)
	for _, name := range names[at:] {
		if !strings.HasPrefix(name, head) || s.compared >= maxCompared || len(s.found) >= s.limit {
			return
		}
		s.compared++
		if last {
			data, ok := strings.CutSuffix(name, CheckpointSuffix)
			if !ok {
				continue
			}
			name = data
		}
		m := pattern.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		of := topic
		if len(m) > 1 {
			of = m[1]
			if s.subscribed != nil && !s.subscribed(of) {
				continue
			}
		}
		if last {
			s.found = append(s.found, filepath.Join(dir, name))
		} else {
			s.walk(filepath.Join(dir, name), elements[1:], of)
		}
	}
}

// list returns the names in a folder, sorted; none if the folder cannot be read.
func (s *search) list(dir string) []string {
	if names, ok := s.folders[dir]; ok {
		return names
	}
	var names []string
	at := dir
	if at == "" {
		at = "."
	}
	if d, err := os.Open(at); err == nil {
		names, _ = d.Readdirnames(-1) // the names before an error are valid
		d.Close()
		slices.Sort(names)
	}
	if s.folders == nil {
		s.folders = make(map[string][]string)
	}
	s.folders[dir] = names
	return names
}
