package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"kcagent/config"
)

// An Op is what is done to one consumer.
type Op string

// The operations.
const (
	Create    Op = "create"
	Start     Op = "start"
	Pause     Op = "pause"
	Resume    Op = "resume"
	Update    Op = "update"    // taken over in place
	Stop      Op = "stop"      // the entry stays
	Replace   Op = "replace"   // ended, and a new one joins
	Terminate Op = "terminate" // the entry goes
)

// A Change is one operation that brings a consumer nearer to what is wanted.
type Change struct {
	Op     Op
	Name   string
	Fields []string        // the fields of the file that cause it; none for create and terminate
	Spec   config.Consumer // what is wanted; the zero value for terminate
}

// Cost is what the change costs the consumer's group.
func (c Change) Cost() string {
	switch {
	case c.Op == Create && c.Spec.State == config.Stopped:
		return "none"
	case c.Op == Create, c.Op == Start:
		return "join"
	case c.Op == Stop, c.Op == Terminate:
		return "leave"
	case c.Op == Replace:
		return "leave and join"
	}
	return "none"
}

// String is "replace orders (sink.file.path, topics)".
func (c Change) String() string {
	s := string(c.Op) + " " + c.Name
	if len(c.Fields) > 0 {
		s += " (" + strings.Join(c.Fields, ", ") + ")"
	}
	return s
}

// A Have is a consumer that is there now.
type Have struct {
	Spec   config.Consumer // as it was last asked to be
	Ending bool            // told to terminate or to make room for its replacement
}

// Plan says what to do so that the consumers that are there become the wanted
// ones. It is the whole meaning of an edit, and level-triggered: it compares
// what is wanted with what has been asked for and is there now, not an old file
// with a new one, so that planning again after its changes were applied gives
// nothing. Consumers are told apart by name alone.
//
// Terminations come first (a renamed entry frees its file before the new name
// asks for it), sorted by name; then the others in the order of want. A
// consumer that is ending gets nothing: once it has gone, the next Plan creates
// what is wanted.
func Plan(want []config.Consumer, have map[string]Have) []Change {
	var changes []Change
	wanted := make(map[string]bool, len(want))
	for _, w := range want {
		wanted[w.Name] = true
		h, ok := have[w.Name]
		switch {
		case !ok:
			changes = append(changes, Change{Op: Create, Name: w.Name, Spec: w})
		case !h.Ending:
			changes = append(changes, planOne(h.Spec, w)...)
		}
	}
	var ended []Change
	for name, h := range have {
		if !wanted[name] && !h.Ending {
			ended = append(ended, Change{Op: Terminate, Name: name})
		}
	}
	slices.SortFunc(ended, func(a, b Change) int { return cmp.Compare(a.Name, b.Name) })
	return append(ended, changes...)
}

// planOne compares one consumer as asked with one as wanted.
func planOne(asked, want config.Consumer) []Change {
	var lives, others []string
	var state bool
	for _, f := range diff(asked, want) {
		switch {
		case f == "state":
			state = true
		case isLive(f):
			lives = append(lives, f)
		default:
			others = append(others, f)
		}
	}
	if len(others) > 0 {
		return []Change{{Op: Replace, Name: want.Name, Fields: others, Spec: want}}
	}
	var changes []Change
	if len(lives) > 0 {
		spec := want
		spec.State = asked.State // the change of state is a change of its own
		changes = append(changes, Change{Op: Update, Name: want.Name, Fields: lives, Spec: spec})
	}
	if state {
		op := stateOp(asked.State, want.State)
		changes = append(changes, Change{Op: op, Name: want.Name, Fields: []string{"state"}, Spec: want})
	}
	return changes
}

func stateOp(from, to config.State) Op {
	switch {
	case to == config.Stopped:
		return Stop
	case from == config.Stopped:
		return Start
	case to == config.Paused:
		return Pause
	}
	return Resume
}

// Guard says why an edit from have to want is refused as a whole, for it would
// terminate more consumers than want allows; nil if it is not.
func Guard(have []config.Consumer, want *config.Config) *config.Problem {
	wanted := make(map[string]bool, len(want.Consumers))
	for _, w := range want.Consumers {
		wanted[w.Name] = true
	}
	var gone []string
	for _, h := range have {
		if !wanted[h.Name] {
			gone = append(gone, h.Name)
		}
	}
	limit := want.Limits.MaxRemovedPercent
	if len(gone)*100 <= len(have)*limit {
		return nil
	}
	return &config.Problem{
		Path: "limits.max_removed_percent",
		Message: fmt.Sprintf("this edit would terminate %d of %d consumers, more than the allowed %d percent: %s",
			len(gone), len(have), limit, strings.Join(gone, ", ")),
		Hint: "raise limits.max_removed_percent in the same edit if this is meant",
	}
}
