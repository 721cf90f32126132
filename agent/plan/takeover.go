package plan

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"kcagent/config"
	"kcagent/config/objects"
	"kcagent/sink"
	"kcagent/sink/file/filename"
)

// warnTakeovers sets the warning of each change after which a consumer writes to a file, or objects
// below a URL, that another group has written to until now. The other group is that of the consumer's
// current spec, or of a consumer that is removed or will write elsewhere. The new group does
// not start where the file ends, but at its own committed offsets or at its start policy,
// so the file or store usually gets the whole topic again.
func warnTakeovers(changes []Change, have map[string]Current) {
	var former []formerWriter
	for i := range changes {
		c := &changes[i]
		if placeOf(c.Spec.Sink) == "" || c.Op == Keep || c.Op != Create && !slices.ContainsFunc(c.Fields, decidesPlace) {
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

// decidesPlace reports whether a field has an influence on which group writes which topics
// to which file or objects.
func decidesPlace(field string) bool {
	switch field {
	case "group", "topics", "topics_regex", "sink", "sink.file", "sink.file.path",
		"sink.objects", "sink.objects.url", "sink.objects.endpoint", "sink.objects.account", "sink.objects.key":
		return true
	}
	return false
}

// placeOf returns where a sink writes: the path of its file, or the URL of its objects; "" for other
// kinds.
func placeOf(s sink.Spec) string {
	switch {
	case s.File != nil:
		return filepath.Clean(s.File.Path)
	case s.Objects != nil:
		return s.Objects.URL
	}
	return ""
}

// A formerWriter is the spec of a consumer that writes to a place, before the changes.
type formerWriter struct {
	config.Consumer
	head string // see headOf
}

func formerWriters(have map[string]Current) []formerWriter {
	var all []formerWriter
	for _, h := range have {
		if placeOf(h.Spec.Sink) != "" {
			all = append(all, formerWriter{h.Spec, headOf(h.Spec.Sink)})
		}
	}
	slices.SortFunc(all, func(a, b formerWriter) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// headOf returns the path or key up to the first placeholder.
func headOf(s sink.Spec) string {
	place := placeOf(s)
	if s.Objects != nil {
		place += "/" + s.Objects.Key
	}
	head, _, _ := strings.Cut(place, "{")
	return head
}

// takenOver returns a consumer of another group that has written records of the same topics
// to a file or objects of c: c itself with its current spec, or else the first by name; nil if there is
// none. It does not find consumers that keep their place, because validation rejects two
// writers of one file or object.
func takenOver(former []formerWriter, c *config.Consumer) (found *formerWriter) {
	head := headOf(c.Sink)
	for i := range former {
		w := &former[i]
		if w.Group == c.Group || !strings.HasPrefix(w.head, head) && !strings.HasPrefix(head, w.head) {
			continue
		}
		if !overlap(&w.Consumer, c) || !shareTopics(&w.Consumer, c) {
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

// overlap reports whether two consumers could write the same file or object.
func overlap(a, b *config.Consumer) bool {
	switch {
	case a.Sink.File != nil && b.Sink.File != nil:
		return filename.Overlap(a.Sink.File.Path, a.Topics, b.Sink.File.Path, b.Topics)
	case a.Sink.Objects != nil && b.Sink.Objects != nil:
		return objects.Overlap(*a.Sink.Objects, a.Topics, *b.Sink.Objects, b.Topics)
	}
	return false
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
	other := "path"
	if c.Sink.Objects != nil {
		other = "url"
	}
	return fmt.Sprintf("%s may hold records of %s: group %s does not continue there and may write the same records again; set group: %s to continue, or another %s",
		placeOf(c.Sink), by, c.Group, w.Group, other)
}
