package agent

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"kcagent/config"
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
	for _, s := range e.spec.Sinks() {
		switch {
		case s.File == nil:
		case strings.Contains(s.File.Path, "{"):
			h.patterns = append(h.patterns, e)
		default:
			path := filepath.Clean(s.File.Path)
			h.byPath[path] = append(h.byPath[path], e)
		}
	}
}

// A holder is a consumer that holds a file which another one is to write.
type holder struct {
	*entry
	file sink.Spec // as the other one names it
}

// blocks says what the other consumer waits for.
func (h *holder) blocks() error {
	return errors.New("waits until " + h.String() + " releases " + h.file.String())
}

// of returns a holder of a file that a consumer with this spec would write, among those for
// which blocks is true; nil if there is none.
func (h *holders) of(spec *config.Consumer, blocks func(*entry) bool) *holder {
	for _, s := range spec.Sinks() {
		if e := h.ofSink(s, blocks); e != nil {
			return &holder{e, s}
		}
	}
	return nil
}

func (h *holders) ofSink(s sink.Spec, blocks func(*entry) bool) *entry {
	if s.File == nil {
		return nil
	}
	conflicts := func(e *entry) bool {
		return slices.ContainsFunc(e.spec.Sinks(), func(own sink.Spec) bool { return kinds.Conflict(own, s) })
	}
	among := func(es []*entry) *entry {
		i := slices.IndexFunc(es, func(e *entry) bool { return blocks(e) && conflicts(e) })
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
