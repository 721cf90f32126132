package precheck

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/agent/group"
	"kcagent/config"
	"kcagent/fetch"
)

// A coordinatorProbe asks one coordinator about its groups. Questions that arrive while
// others are being asked share the next requests.
type coordinatorProbe struct {
	*clusterProbe
	addr string

	mu      sync.Mutex
	waiting []*groupQuestion
	busy    bool

	// Of the goroutine that is busy.
	link    *fetch.Link
	failed  error             // why there is no link
	leaders map[string][]node // by topic
	session error             // what is wrong with the session timeout
	decided bool              // session is known
}

// A node is a broker as the cluster advertises it.
type node struct {
	id   int32
	addr string
}

// A groupQuestion is what a probe asks of one consumer's group.
type groupQuestion struct {
	spec    *config.Consumer
	topics  []string
	done    chan struct{} // closed with the answer
	failed  error         // why the coordinator did not answer
	err     error         // why the group cannot be joined
	leaders []node        // of the topics
}

// ask answers q.
func (c *coordinatorProbe) ask(ctx context.Context, q *groupQuestion) {
	q.done = make(chan struct{})
	c.mu.Lock()
	c.waiting = append(c.waiting, q)
	mine := !c.busy
	c.busy = true
	c.mu.Unlock()
	if !mine {
		<-q.done
		return
	}
	for {
		c.mu.Lock()
		asked := c.waiting
		c.waiting = nil
		c.busy = len(asked) > 0
		c.mu.Unlock()
		if len(asked) == 0 {
			return
		}
		c.examine(ctx, asked)
		for _, q := range asked {
			close(q.done)
		}
	}
}

// examine answers some questions. Its requests change nothing at the coordinator.
func (c *coordinatorProbe) examine(ctx context.Context, asked []*groupQuestion) {
	if c.link == nil && c.failed == nil {
		c.link, c.failed = c.Link(ctx, c.addr)
	}
	err := c.failed
	if err == nil {
		err = c.examineGroups(ctx, asked)
	}
	if err == nil {
		err = c.findLeaders(asked)
	}
	for _, q := range asked {
		if err != nil {
			q.failed = err
			continue
		}
		for _, t := range q.topics {
			q.leaders = append(q.leaders, c.leaders[t]...)
		}
	}
}

// examineGroups describes the groups, and examines those that a member of kcagent may
// not be able to join.
func (c *coordinatorProbe) examineGroups(ctx context.Context, asked []*groupQuestion) error {
	groups, err := c.describe(ctx, asked)
	if err != nil {
		return err
	}
	modern, err := c.modern(groups)
	if err != nil {
		return err
	}
	var tried []*groupQuestion
	var joins []kmsg.Request
	sure := c.decided
	for i, q := range asked {
		g := groups[q.spec.Group]
		m, isModern := modern[q.spec.Group]
		foreign := len(g.Members) > 0 && (g.ProtocolType != group.ConsumerProtocol || g.Protocol != group.Assignor) || len(m.Members) > 0
		converts := isModern && len(m.Members) == 0 // by the first classic member
		if g.ErrorCode == codeDenied || converts || !foreign && (sure || i >= mostSessions) {
			continue
		}
		tried = append(tried, q)
		joins = append(joins, tryJoin(q.spec))
	}
	resps, err := c.link.AskAll(joins)
	if err != nil {
		return err
	}
	for i, q := range tried {
		_, isModern := modern[q.spec.Group]
		switch code := sarama.KError(resps[i].(*kmsg.JoinGroupResponse).ErrorCode); code {
		case sarama.ErrInvalidSessionTimeout:
			c.session, c.decided = code, true
		case sarama.ErrInconsistentGroupProtocol:
			q.err = group.ExplainConflict(q.spec.Group, group.KindOf(groups[q.spec.Group], isModern), code)
			c.decided = true
		case sarama.ErrGroupAuthorizationFailed: // to see a group is another permission
			q.err = fmt.Errorf("join group %s: %w", q.spec.Group, code)
		case sarama.ErrUnknownMemberId:
			c.decided = true
		}
	}
	for _, q := range asked {
		if c.session != nil && q.err == nil {
			q.err = fmt.Errorf("join group %s: %w", q.spec.Group, group.WrongSession(q.spec, c.session))
		}
	}
	return nil
}

const (
	// mostTopics and mostLeaders bound what a probe looks at.
	mostTopics, mostLeaders = 200, 32
	// mostSessions is how many groups a probe uses to check the session timeout: the
	// response for some groups does not show whether it is allowed.
	mostSessions = 3
	// leadersAtOnce is how many leaders a probe connects to at a time.
	leadersAtOnce = 8

	codeDenied  = int16(sarama.ErrGroupAuthorizationFailed)
	codeNoGroup = int16(sarama.ErrGroupIDNotFound)
)

// describe describes groups, and waits while the coordinator loads them.
func (c *coordinatorProbe) describe(ctx context.Context, asked []*groupQuestion) (map[string]kmsg.DescribeGroupsResponseGroup, error) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	for _, q := range asked {
		req.Groups = append(req.Groups, q.spec.Group)
	}
	slices.Sort(req.Groups)
	req.Groups = slices.Compact(req.Groups)
	for {
		resp, err := c.link.Ask(req)
		if err != nil {
			return nil, err
		}
		groups := make(map[string]kmsg.DescribeGroupsResponseGroup)
		loading := false
		for _, g := range resp.(*kmsg.DescribeGroupsResponse).Groups {
			groups[g.Group] = g
			code := sarama.KError(g.ErrorCode)
			loading = loading || code == sarama.ErrOffsetsLoadInProgress || code == sarama.ErrConsumerCoordinatorNotAvailable
		}
		if !loading {
			return groups, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("describe groups: %w", sarama.ErrOffsetsLoadInProgress)
		case <-time.After(group.CoordinatorPause):
		}
	}
}

// modern finds the groups of the consumer protocol of KIP-848 among the groups without
// members in the response to DescribeGroups.
func (c *coordinatorProbe) modern(groups map[string]kmsg.DescribeGroupsResponseGroup) (map[string]kmsg.ConsumerGroupDescribeResponseGroup, error) {
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	for name, g := range groups {
		if g.ErrorCode == codeNoGroup || g.ErrorCode == 0 && len(g.Members) == 0 {
			req.Groups = append(req.Groups, name)
		}
	}
	if len(req.Groups) == 0 {
		return nil, nil
	}
	resp, err := c.link.Ask(req)
	switch {
	case errors.As(err, new(fetch.UnsupportedError)):
		return nil, nil
	case err != nil:
		return nil, err
	}
	modern := make(map[string]kmsg.ConsumerGroupDescribeResponseGroup)
	for _, g := range resp.(*kmsg.ConsumerGroupDescribeResponse).Groups {
		if g.ErrorCode == 0 {
			modern[g.Group] = g
		}
	}
	return modern, nil
}

// tryJoin returns a request that tests whether the coordinator would accept a member: a
// JoinGroup with a member id that does not exist. Kafka checks the permission, the session
// timeout and the protocols before it looks for the member, and then changes nothing. A
// request without a member id would leave a pending member, for which a rebalance of the
// group waits.
func tryJoin(spec *config.Consumer) kmsg.Request {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = spec.Group, "kcagent-pre-check-"+rand.Text(), group.ConsumerProtocol
	req.SessionTimeoutMillis = int32(group.SessionTimeout(spec).Milliseconds())
	req.RebalanceTimeoutMillis = int32(group.RebalanceTimeout.Milliseconds())
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = spec.Topics
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: group.Assignor, Metadata: meta.AppendTo(nil)}}
	return req
}

// findLeaders finds the leaders of the topics that are not known yet.
func (c *coordinatorProbe) findLeaders(asked []*groupQuestion) error {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	req.AllowAutoTopicCreation = false
	for _, q := range asked {
		for _, t := range q.topics {
			if _, known := c.leaders[t]; !known && len(req.Topics) < mostTopics {
				c.leaders[t] = nil
				req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{Topic: kmsg.StringPtr(t)})
			}
		}
	}
	if len(req.Topics) == 0 {
		return nil
	}
	req.Version = 4 // older ones create topics
	resp, err := c.link.Ask(req)
	switch {
	case errors.As(err, new(fetch.UnsupportedError)):
		return nil
	case err != nil:
		return err
	}
	meta := resp.(*kmsg.MetadataResponse)
	addrs := make(map[int32]string, len(meta.Brokers))
	for _, b := range meta.Brokers {
		addrs[b.NodeID] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
	}
	for _, t := range meta.Topics {
		if t.Topic == nil {
			continue
		}
		var leaders []node
		for _, p := range t.Partitions {
			if n := (node{p.Leader, addrs[p.Leader]}); n.addr != "" && !slices.Contains(leaders, n) {
				leaders = append(leaders, n)
			}
		}
		c.leaders[*t.Topic] = leaders
	}
	return nil
}
