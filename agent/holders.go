package agent

import (
	"path/filepath"
	"slices"
	"strings"

	"kcagent/sink"
	"kcagent/sink/kinds"
)

// holders are the consumers that hold a file which they are about to release, by the path
// of the file.
type holders struct {
	byPath   map[string][]*entry
	patterns []*entry // whose path has placeholders
}

// holders finds them. No other consumers have to be considered: validation rejects two
// writers of one file, so a consumer that holds the file of another one is changing,
// ending, or a zombie.
func (a *Agent) holders() *holders {
	h := &holders{byPath: make(map[string][]*entry)}
	for _, e := range a.entries {
		if e.cancel != nil && (e.ending || e.timer != nil || e.pending != nil) {
			h.add(e)
		}
	}
	for _, z := range a.zombies {
		h.add(z)
	}
	return h
}

func (h *holders) add(e *entry) {
	file := e.spec.Sink.File
	switch {
	case file == nil:
	case strings.Contains(file.Path, "{"):
		h.patterns = append(h.patterns, e)
	default:
		path := filepath.Clean(file.Path)
		h.byPath[path] = append(h.byPath[path], e)
	}
}

// of returns a holder of a file that s would write, among those for which blocks is true;
// nil if there is none.
func (h *holders) of(s sink.Spec, blocks func(*entry) bool) *entry {
	if s.File == nil {
		return nil
	}
	among := func(es []*entry) *entry {
		i := slices.IndexFunc(es, func(e *entry) bool { return blocks(e) && kinds.Conflict(e.spec.Sink, s) })
		if i < 0 {
			return nil
		}
		return es[i]
	}
	if !strings.Contains(s.File.Path, "{") {
		if e := among(h.byPath[filepath.Clean(s.File.Path)]); e != nil {
			return e
		}
		return among(h.patterns)
	}
	for _, es := range h.byPath {
		if e := among(es); e != nil {
			return e
		}
	}
	return among(h.patterns)
}
