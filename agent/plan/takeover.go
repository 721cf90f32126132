package plan

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"kcagent/config"
	"kcagent/sink/file/filename"
)

// warnTakeovers sets the warning of each change after which a consumer writes to a file
// that another group has written to until now. The other group is that of the consumer's
// current spec, or of a consumer that is removed or will write elsewhere. The new group does
// not start where the file ends, but at its own committed offsets or at its start policy,
// so the file usually gets the whole topic again.
func warnTakeovers(changes []Change, have map[string]Current) {
	var former []formerWriter
	for i := range changes {
		c := &changes[i]
		if c.Spec.Sink.File == nil || c.Op == Keep || c.Op != Create && !slices.ContainsFunc(c.Fields, decidesFile) {
			continue
		}
		if former == nil {
			if former = formerWriters(have); len(former) == 0 {
				return
			}
		}
		if w := takenOver(former, &c.Spec); w != nil {
			c.Warning = takeoverWarning(w, &c.Spec)
		}
	}
}

// decidesFile reports whether a field has an influence on which group writes which topics
// to which file.
func decidesFile(field string) bool {
	switch field {
	case "group", "topics", "topics_regex", "sink", "sink.file", "sink.file.path":
		return true
	}
	return false
}

// A formerWriter is the spec of a consumer with a file, before the changes.
type formerWriter struct {
	config.Consumer
	head string // its path up to the first placeholder
}

func formerWriters(have map[string]Current) []formerWriter {
	var all []formerWriter
	for _, h := range have {
		if f := h.Spec.Sink.File; f != nil {
			all = append(all, formerWriter{h.Spec, headOf(f.Path)})
		}
	}
	slices.SortFunc(all, func(a, b formerWriter) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func headOf(path string) string {
	head, _, _ := strings.Cut(filepath.Clean(path), "{")
	return head
}

// takenOver returns a consumer of another group that has written records of the same topics
// to a file of c: c itself with its current spec, or else the first by name; nil if there is
// none. It does not find consumers that keep their file, because validation rejects two
// writers of one file.
func takenOver(former []formerWriter, c *config.Consumer) (found *formerWriter) {
	head := headOf(c.Sink.File.Path)
	for i := range former {
		w := &former[i]
		if w.Group == c.Group || !strings.HasPrefix(w.head, head) && !strings.HasPrefix(head, w.head) {
			continue
		}
		if !filename.Overlap(w.Sink.File.Path, w.Topics, c.Sink.File.Path, c.Topics) || !shareTopics(&w.Consumer, c) {
			continue
		}
		if w.Name == c.Name {
			return w
		}
		if found == nil {
			found = w
		}
	}
	return found
}

// shareTopics reports whether two consumers may read the same topic.
func shareTopics(a, b *config.Consumer) bool {
	switch {
	case a.TopicsRegex != "" && b.TopicsRegex != "":
		return true
	case b.TopicsRegex != "":
		a, b = b, a
	}
	if a.TopicsRegex != "" {
		re, err := regexp.Compile(a.TopicsRegex)
		return err != nil || slices.ContainsFunc(b.Topics, re.MatchString)
	}
	return slices.ContainsFunc(a.Topics, func(t string) bool { return slices.Contains(b.Topics, t) })
}

func takeoverWarning(w *formerWriter, c *config.Consumer) string {
	by := "group " + w.Group
	if w.Name != c.Name {
		by += " of consumer " + w.Name
	}
	return fmt.Sprintf("%s may hold records of %s: group %s does not continue there and may write the same records again; set group: %s to continue, or another path",
		c.Sink.File.Path, by, c.Group, w.Group)
}
