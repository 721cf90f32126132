package model

import (
	"fmt"
	"strings"
)

// A rule is one of the rules of the protocol. The model can run without it, to show what it is
// for.
type rule int

const (
	planFirst           rule = 1 + iota // the plan is committed before any byte is visible
	putAfterPlan                        // a PUT begins only after the success of the own plan commit
	lateFetch                           // the committed offset is read after the generation began
	adopt                               // a plan that is found is completed, and never replaced
	ownToken                            // a commit carries the token of the assignment
	unknownResult                       // after a lost response: read back, else leave the group
	allObjects                          // b is committed only after every object is acknowledged or seen
	sameTopic                           // metadata carries cluster and topic; a plan needs both, and a
	planSettings                        // the settings of the plan decide about keys and records
	planRange                           // {first} and {last} come from the plan
	topicInKey                          // the key contains the topic id
	checkIdentity                       // the identity is checked on each HEAD and 412
	headFirst                           // HEAD before PUT
	stableOnly                          // b is at most the last stable offset, committed records only
	endByPosition                       // a rebuild ends by position
	startCommitted                      // the start offset is committed before reading
	ruleLast            = startCommitted
	lastInKey           = ruleLast + 1 // the key contains {last}
	probe               = ruleLast + 2 // the keys are checked before the plan is committed
	noResend            = ruleLast + 3 // with unknownResult: a commit without response is not resent
	resentProvesNothing = ruleLast + 4 // the nonce in force proves nothing about a commit that was sent again after an error response
)

// dropped is a set of rules that the model runs without.
type dropped uint32

func without(rules ...rule) (d dropped) {
	for _, r := range rules {
		d |= 1 << r
	}
	return d
}

// holds reports whether rule r is followed.
func (d dropped) holds(r rule) bool { return d&(1<<r) == 0 }

func (d dropped) String() string {
	if d == 0 {
		return "all rules"
	}
	var names []string
	for r := planFirst; r <= resentProvesNothing; r++ {
		switch {
		case d.holds(r):
		case r <= ruleLast:
			names = append(names, fmt.Sprint(int(r)))
		default:
			names = append(names, map[rule]string{lastInKey: "{last}", probe: "the probe", noResend: "a new plan instead of a resend", resentProvesNothing: "a doubt about the nonce of a resent commit"}[r])
		}
	}
	return "without " + strings.Join(names, ", ")
}
