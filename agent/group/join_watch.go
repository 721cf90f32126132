package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/kafka/login"
	"kcagent/fetch"
	"kcagent/limits"
)

const (
	// joinTick is how often the watch checks whether the join is still needed.
	joinTick = time.Second
	// describeInterval is how long a join waits before its group is described, and between two
	// descriptions. An ordinary rebalance is over by then.
	describeInterval = 10 * time.Second
	// joinAnswer is how long the coordinator may take to describe the group.
	joinAnswer = 8 * time.Second
	// reportAfter is how long a join waits before it is reported. Until then the wait may
	// be due to flushes of other members.
	reportAfter = 30 * time.Second
	// staticGrace is how long a static member that is stopped waits for its join: it learns
	// its member id from the response. Without it, it leaves the group by its instance_id.
	staticGrace = 5 * time.Second
)

// A JoinWatch watches the join of one generation: it reports what a long join waits for, and
// ends a join that is no longer needed or that the coordinator does not know.
//
// A join is answered once all members of the group have rejoined, or their rebalance
// timeouts have passed, which may be minutes in a group that others share. The request
// waits for that: a second request could add a second member that no goroutine serves.
// Meanwhile the watch checks the coordinator over other connections.
type JoinWatch struct {
	Client   *Client
	Instance *string // instance_id of the member; nil if it has none
	// Superseded is called while a join waits. It ends the context of run if the join is not
	// needed any more, because other topics are to be read, and reports whether it did.
	Superseded func() bool
	Report     func(error) // reports what a join waits for, or why it was given up
}

// Run watches until over ends; ctx is that of the join. It returns the last error for which
// a join was given up; nil if none was.
func (w *JoinWatch) Run(ctx, over context.Context) (gaveUp error) {
	tick := time.NewTicker(joinTick)
	defer tick.Stop()
	var looked, stopped time.Time
	unexplained := 0 // descriptions in a row that do not explain the wait
	for {
		select {
		case <-over.Done():
			return gaveUp
		case <-tick.C:
		}
		if ctx.Err() != nil && stopped.IsZero() {
			stopped = time.Now()
		}
		since, waits := w.Client.dialer.Joining()
		switch {
		case !waits:
		case !stopped.IsZero():
			if w.Instance == nil || time.Since(stopped) > staticGrace {
				w.Client.dialer.CutJoins() // sarama cannot cancel the request
			}
		case w.Superseded():
		case time.Since(since) >= describeInterval && time.Since(looked) >= describeInterval:
			err := w.check(ctx, over, since)
			looked = time.Now()
			if unexplained++; err == nil || ctx.Err() != nil || over.Err() != nil {
				unexplained = 0
			} else if unexplained > 1 || !errors.Is(err, errNotRebalancing) { // the response may be on its way
				unexplained, gaveUp = 0, err
				w.Report(fmt.Errorf("join group %s: %w", w.Client.group, err))
				w.Client.Forget() // first: sarama looks the coordinator up again at once
				w.Client.dialer.CutJoins()
			}
		}
	}
}

var errNotRebalancing = errors.New("the group is not rebalancing, and its coordinator has not responded")

// check asks the coordinator over another connection what a join waits for. An error means
// that the response may never come.
func (w *JoinWatch) check(ctx, over context.Context, since time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, joinAnswer)
	defer cancel()
	defer context.AfterFunc(over, cancel)()
	_, addr, err := w.Client.cluster.Coordinator(ctx, w.Client.group)
	if err != nil {
		return fmt.Errorf("find its coordinator: %w", err)
	}
	if own := w.Client.coordinatorAddr(); own != "" && own != addr {
		return fmt.Errorf("its coordinator has moved to %s", addr)
	}
	group, err := w.describeAt(ctx, addr)
	if err != nil {
		return fmt.Errorf("its coordinator at %s has not responded: %w", addr, err)
	}
	switch code := sarama.KError(group.ErrorCode); {
	case code == sarama.ErrGroupAuthorizationFailed: // it responds, but this agent may not describe the group
	case code != sarama.ErrNoError || !rebalancing(group.State):
		return errNotRebalancing
	}
	if time.Since(since) >= reportAfter {
		w.Report(fmt.Errorf("join group %s: %s", w.Client.group, waitsFor(group, w.Client.dialer.JoiningAs(), w.Instance)))
	}
	return nil
}

// rebalancing reports that a group in a state does not answer a join or a sync yet.
func rebalancing(state string) bool { return state == "PreparingRebalance" || assigning(state) }

// assigning reports that a group waits for its leader.
func assigning(state string) bool {
	return state == "CompletingRebalance" || state == "AwaitingSync" // so called before Kafka 1.1
}

// describeAt describes the group over a connection of its own. If no second connection is
// possible, or the broker cannot describe groups, the coordinator may still answer the
// join: describeAt then reports a missing permission.
func (w *JoinWatch) describeAt(ctx context.Context, addr string) (kmsg.DescribeGroupsResponseGroup, error) {
	none := kmsg.DescribeGroupsResponseGroup{}
	var resp kmsg.Response
	link, err := w.Client.cluster.Link(ctx, addr)
	if err == nil {
		defer link.Close()
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Groups = []string{w.Client.group}
		resp, err = link.Request(req)
	}
	switch {
	case errors.As(err, new(fetch.UnsupportedError)), errors.As(err, new(*fetch.ConnectionLimitError)),
		errors.As(err, new(limits.DescriptorError)), login.Rejected(err):
		none.ErrorCode = int16(sarama.ErrGroupAuthorizationFailed)
		return none, nil
	case err != nil:
		return none, err
	}
	if groups := resp.(*kmsg.DescribeGroupsResponse).Groups; len(groups) == 1 {
		return groups[0], nil
	}
	return none, sarama.ErrIncompleteResponse
}

// mostNamed bounds how many members an error names.
const mostNamed = 3

// waitsFor names the members that a join may wait for: all but our own, because Kafka
// does not say which of them have rejoined. Before its first join is answered, a static member only
// knows its instance_id.
func waitsFor(group kmsg.DescribeGroupsResponseGroup, own string, instance *string) string {
	others := slices.DeleteFunc(slices.Clone(group.Members), func(d kmsg.DescribeGroupsResponseGroupMember) bool {
		return d.MemberID == own || instance != nil && d.InstanceID != nil && *d.InstanceID == *instance
	})
	slices.SortFunc(others, func(a, b kmsg.DescribeGroupsResponseGroupMember) int {
		return cmp.Or(cmp.Compare(agentsOwn(a), agentsOwn(b)), cmp.Compare(a.ClientID, b.ClientID), cmp.Compare(a.ClientHost, b.ClientHost))
	})
	var names []string
	for _, d := range others[:min(len(others), mostNamed)] {
		names = append(names, fmt.Sprintf("client %q at %s", d.ClientID, d.ClientHost))
	}
	if more := len(others) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	who := strings.Join(names, ", ")
	const ends = "the rebalance ends when that is done, or after the rebalance timeout"
	switch {
	case assigning(group.State):
		return fmt.Sprintf("waiting for the leader of the group to assign the partitions: it is one of %s; %s", who, ends)
	case len(others) == 0:
		return "waiting for the other members to rejoin; " + ends
	case len(others) == 1:
		return fmt.Sprintf("waiting for 1 member to rejoin: %s; %s", who, ends)
	}
	return fmt.Sprintf("waiting for members to rejoin, at least one of %d: %s; %s", len(others), who, ends)
}

// agentsOwn is 1 for members of agents, which rejoin soon, and 0 for others.
func agentsOwn(d kmsg.DescribeGroupsResponseGroupMember) int {
	if strings.HasPrefix(d.ClientID, "kcagent/") {
		return 1
	}
	return 0
}
