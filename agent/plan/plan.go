// Package plan defines what an edit means: [Plan] compares the specs of the file with the
// running consumers and returns a list of [Change]. It is pure, so `kcagent plan` shows
// exactly what the agent will do. The cases are goldens in testdata/plan.
package plan

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"kcagent/config"
)

// An Op is an operation on one consumer.
type Op string

// The operations.
const (
	Create      Op = "create"
	Start       Op = "start"
	Pause       Op = "pause"
	Resume      Op = "resume"
	Update      Op = "update"      // apply settings without leaving the group
	Resubscribe Op = "resubscribe" // read other topics as the same member
	Stop        Op = "stop"        // leave the group; the consumer stays in the table
	Replace     Op = "replace"     // terminate the consumer, then create it with another spec
	Terminate   Op = "terminate"   // leave the group and the table
	Keep        Op = "keep"        // discard a pending replace or resubscribe
	Reconnect   Op = "reconnect"   // use changed credentials; the agent plans it, not Plan
)

// Ops lists the operations that an edit can cause, the costliest first.
var Ops = []Op{Terminate, Replace, Stop, Create, Start, Resubscribe, Update, Pause, Resume}

// preChecked reports whether the operation is applied only after a pre-check, during which
// the consumer keeps its current configuration.
func (o Op) preChecked() bool { return o == Replace || o == Resubscribe || o == Reconnect }

// A Change is one operation that brings a consumer nearer to its desired spec.
type Change struct {
	Op     Op
	Name   string
	Fields []string        // that differ, as in the file; none for create and terminate
	Spec   config.Consumer // the desired spec; the zero value for terminate
	Idle   bool            // the consumer is stopped now

	// Warning is what the operator should know before the change is applied; "" for nothing.
	Warning string
}

// Cost is what the change costs the consumer's group: none, join, leave, "leave and join"
// or "one rebalance".
func (c Change) Cost() string {
	stays := c.Spec.State == config.Stopped
	switch c.Op {
	case Create, Start:
		if !stays {
			return "join"
		}
	case Stop:
		return "leave"
	case Terminate:
		if !c.Idle {
			return "leave"
		}
	case Resubscribe:
		return "one rebalance"
	case Replace:
		switch {
		case !c.Idle && stays:
			return "leave"
		case !c.Idle:
			return "leave and join"
		case !stays:
			return "join"
		}
	}
	return "none"
}

// String is "replace orders (group, sink.file.path)".
func (c Change) String() string {
	s := string(c.Op) + " " + c.Name
	if len(c.Fields) > 0 {
		s += " (" + strings.Join(c.Fields, ", ") + ")"
	}
	return s
}

// Current is a consumer that exists now.
type Current struct {
	Spec    config.Consumer  // that it was last asked to apply
	Ending  bool             // it was asked to terminate or to make room for its replacement
	Pending *config.Consumer // the spec of its pending change; nil if there is none
}

// Plan returns the changes that turn the consumers in have into those in want. It is the
// whole meaning of an edit. It compares the desired specs with the consumers that exist,
// not an old file with a new one, so planning again after the changes were applied returns
// nothing. The name alone identifies a consumer.
//
// Terminations come first, sorted by name, because a renamed consumer has to release its
// file before the new name can use it. The others follow in the order of want, at most one
// for each consumer. A consumer that is ending gets none: once it has ended, the next Plan
// creates it.
func Plan(want []config.Consumer, have map[string]Current) []Change {
	var changes []Change
	wanted := make(map[string]bool, len(want))
	for _, w := range want {
		wanted[w.Name] = true
		h, ok := have[w.Name]
		switch {
		case !ok:
			changes = append(changes, Change{Op: Create, Name: w.Name, Spec: w})
		case !h.Ending:
			if c := planOne(h, w); c.Op != "" {
				changes = append(changes, c)
			}
		}
	}
	var ended []Change
	for name, h := range have {
		if !wanted[name] && !h.Ending {
			ended = append(ended, Change{Op: Terminate, Name: name, Idle: h.Spec.State == config.Stopped})
		}
	}
	slices.SortFunc(ended, func(a, b Change) int { return cmp.Compare(a.Name, b.Name) })
	changes = append(ended, changes...)
	warnTakeovers(changes, have)
	return changes
}

// planOne plans the change of one consumer. The zero Op means that there is none.
func planOne(h Current, want config.Consumer) Change {
	if h.Pending == nil {
		return Compare(h.Spec, want)
	}
	onPending := Compare(*h.Pending, want)
	if !onPending.Op.preChecked() && onPending.Op != Stop {
		return onPending // nothing, or a change of both specs
	}
	c := Compare(h.Spec, want)
	switch {
	case c.Op == "":
		c = onPending
		c.Op = Keep
	case !c.Op.preChecked() && c.Op != Stop:
		c.Op = Keep
	}
	return c
}

// Compare returns the change from one spec of a consumer to another.
func Compare(current, want config.Consumer) Change {
	c := Change{Name: want.Name, Spec: want, Idle: current.State == config.Stopped}
	if reflect.DeepEqual(current, want) { // most are; diff takes longer
		return c
	}
	if c.Fields = diff(current, want); len(c.Fields) == 0 {
		return c
	}
	costs := costLive
	for _, f := range c.Fields {
		costs = max(costs, costOf(f))
	}
	switch {
	case costs == costReplace:
		c.Op = Replace
	case current.State != want.State && want.State == config.Stopped:
		c.Op = Stop
	case current.State != want.State && c.Idle:
		c.Op = Start
	case costs == costSubscription && !c.Idle:
		c.Op = Resubscribe
	case current.State == want.State:
		c.Op = Update
	case want.State == config.Paused:
		c.Op = Pause
	default:
		c.Op = Resume
	}
	return c
}

// Guard returns a problem if an edit from have to want would terminate more consumers than
// limits.max_removed_percent of want allows. Such an edit is rejected as a whole.
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
		Hint: "raise limits.max_removed_percent in the same edit if this is intended",
	}
}
