package agent

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"kcagent/config"
)

// An Op is what is done to one consumer.
type Op string

// The operations.
const (
	Create      Op = "create"
	Start       Op = "start"
	Pause       Op = "pause"
	Resume      Op = "resume"
	Update      Op = "update"      // taken over in place
	Resubscribe Op = "resubscribe" // other topics for the same member
	Stop        Op = "stop"        // the entry stays
	Replace     Op = "replace"     // ended, and a new one joins
	Terminate   Op = "terminate"   // the entry goes
	Keep        Op = "keep"        // a replacement or resubscription that had not begun is dropped
	Reconnect   Op = "reconnect"   // new connections, for a file with secrets changed
)

// Ops lists what a file can bring about, the costliest first.
var Ops = []Op{Terminate, Replace, Stop, Create, Start, Resubscribe, Update, Pause, Resume}

// tried reports whether the operation is tried before it is made, while the
// consumer goes on in its former form.
func (o Op) tried() bool { return o == Replace || o == Resubscribe || o == Reconnect }

// A Change is one operation that brings a consumer nearer to what is wanted.
type Change struct {
	Op     Op
	Name   string
	Fields []string        // the fields of the file that cause it; none for create and terminate
	Spec   config.Consumer // what is wanted; the zero value for terminate
	Idle   bool            // it is stopped until now

	// Warning is what the operator should know before the change is made; "" if
	// there is nothing.
	Warning string
}

// Cost is what the change costs the consumer's group.
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

// A Have is a consumer that is there now.
type Have struct {
	Spec   config.Consumer  // as it was last asked to be
	Ending bool             // told to terminate or to make room for its replacement
	Next   *config.Consumer // another form that is being tried; nil without one
}

// Plan says what to do so that the consumers that are there become the wanted
// ones. It is the whole meaning of an edit, and level-triggered: it compares
// what is wanted with what has been asked for and is there now, not an old file
// with a new one, so that planning again after its changes were applied gives
// nothing. Consumers are told apart by name alone.
//
// Terminations come first (a renamed entry frees its file before the new name
// asks for it), sorted by name; then the others in the order of want, one
// change a consumer at most. A consumer that is ending gets nothing: once it
// has gone, the next Plan creates what is wanted.
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

// planOne compares one consumer as asked with one as wanted. The zero Op means
// that it is as wanted.
func planOne(h Have, want config.Consumer) Change {
	if h.Next == nil {
		return compare(h.Spec, want)
	}
	onNext := compare(*h.Next, want)
	if !onNext.Op.tried() && onNext.Op != Stop {
		return onNext // nothing, or something that holds for both forms
	}
	c := compare(h.Spec, want)
	switch {
	case c.Op == "":
		c = onNext
		c.Op = Keep
	case !c.Op.tried() && c.Op != Stop:
		c.Op = Keep
	}
	return c
}

// compare says what makes one form of a consumer another.
func compare(asked, want config.Consumer) Change {
	c := Change{Name: want.Name, Spec: want, Idle: asked.State == config.Stopped}
	if reflect.DeepEqual(asked, want) { // nearly all are; naming the fields takes longer
		return c
	}
	if c.Fields = diff(asked, want); len(c.Fields) == 0 {
		return c
	}
	costs := costLive
	for _, f := range c.Fields {
		costs = max(costs, costOf(f))
	}
	switch {
	case costs == costReplace:
		c.Op = Replace
	case asked.State != want.State && want.State == config.Stopped:
		c.Op = Stop
	case asked.State != want.State && c.Idle:
		c.Op = Start
	case costs == costSubscription && !c.Idle:
		c.Op = Resubscribe
	case asked.State == want.State:
		c.Op = Update
	case want.State == config.Paused:
		c.Op = Pause
	default:
		c.Op = Resume
	}
	return c
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
