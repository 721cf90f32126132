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

// A coordinatorProbe checks groups at their coordinator. Checks that are added while requests
// are in flight share the next requests.
type coordinatorProbe struct {
	*clusterProbe
	addr string

	mu      sync.Mutex
	waiting []*groupCheck
	running bool // a goroutine sends requests

	// Only the goroutine that sends requests uses these.
	link         *fetch.Link
	linkErr      error                         // why there is no link
	leaders      map[string][]advertisedBroker // by topic
	sessionErr   error                         // why the session timeout is not allowed
	sessionKnown bool                          // whether the session timeout is allowed is known
}

// An advertisedBroker is a broker at the address that it advertises.
type advertisedBroker struct {
	id   int32
	addr string
}

// A groupCheck is the check of one consumer's group.
type groupCheck struct {
	spec    *config.Consumer
	topics  []string
	done    chan struct{}      // closed once the fields below are set
	failed  error              // why the coordinator did not answer
	err     error              // why the group cannot be joined
	leaders []advertisedBroker // of the topics
}

// check runs q, and returns when its result is set.
func (c *coordinatorProbe) check(ctx context.Context, q *groupCheck) {
	q.done = make(chan struct{})
	c.mu.Lock()
	c.waiting = append(c.waiting, q)
	first := !c.running
	c.running = true
	c.mu.Unlock()
	if !first { // another goroutine runs it
		<-q.done
		return
	}
	for {
		c.mu.Lock()
		checks := c.waiting
		c.waiting = nil
		c.running = len(checks) > 0
		c.mu.Unlock()
		if len(checks) == 0 {
			return
		}
		c.checkAll(ctx, checks)
		for _, q := range checks {
			close(q.done)
		}
	}
}

// checkAll runs some checks. Its requests change nothing at the coordinator.
func (c *coordinatorProbe) checkAll(ctx context.Context, checks []*groupCheck) {
	if c.link == nil && c.linkErr == nil {
		c.link, c.linkErr = c.Link(ctx, c.addr)
	}
	err := c.linkErr
	if err == nil {
		err = c.checkGroups(ctx, checks)
	}
	if err == nil {
		err = c.findLeaders(checks)
	}
	for _, q := range checks {
		if err != nil {
			q.failed = err
			continue
		}
		for _, t := range q.topics {
			q.leaders = append(q.leaders, c.leaders[t]...)
		}
	}
}

// checkGroups describes the groups, and tests a join of those that a member of kcagent may
// not be able to join.
func (c *coordinatorProbe) checkGroups(ctx context.Context, checks []*groupCheck) error {
	groups, err := c.describe(ctx, checks)
	if err != nil {
		return err
	}
	modern, err := c.modern(groups)
	if err != nil {
		return err
	}
	var tested []*groupCheck
	var joins []kmsg.Request
	sessionKnown := c.sessionKnown
	for i, q := range checks {
		g := groups[q.spec.Group]
		m, isModern := modern[q.spec.Group]
		foreign := len(g.Members) > 0 && (g.ProtocolType != group.ConsumerProtocol || g.Protocol != group.Assignor) || len(m.Members) > 0
		converts := isModern && len(m.Members) == 0 // by the first classic member
		if g.ErrorCode == codeDenied || converts || !foreign && (sessionKnown || i >= maxSessionChecks) {
			continue
		}
		tested = append(tested, q)
		joins = append(joins, testJoin(q.spec))
	}
	resps, err := c.link.RequestAll(joins)
	if err != nil {
		return err
	}
	for i, q := range tested {
		_, isModern := modern[q.spec.Group]
		switch code := sarama.KError(resps[i].(*kmsg.JoinGroupResponse).ErrorCode); code {
		case sarama.ErrInvalidSessionTimeout:
			c.sessionErr, c.sessionKnown = code, true
		case sarama.ErrInconsistentGroupProtocol:
			q.err = group.ExplainConflict(q.spec.Group, group.KindOf(groups[q.spec.Group], isModern), code)
			c.sessionKnown = true
		case sarama.ErrGroupAuthorizationFailed: // describing a group needs another permission
			q.err = fmt.Errorf("join group %s: %w", q.spec.Group, code)
		case sarama.ErrUnknownMemberId:
			c.sessionKnown = true
		}
	}
	for _, q := range checks {
		if c.sessionErr != nil && q.err == nil {
			q.err = fmt.Errorf("join group %s: %w", q.spec.Group, group.WrongSession(q.spec, c.sessionErr))
		}
	}
	return nil
}

const (
	// maxTopics and maxLeaders limit how many topics and leaders a probe checks.
	maxTopics, maxLeaders = 200, 32
	// maxSessionChecks is how many groups a probe uses to check the session timeout: the
	// response for some groups does not show whether it is allowed.
	maxSessionChecks = 3
	// maxConnects is how many leaders a probe connects to at once.
	maxConnects = 8

	codeDenied  = int16(sarama.ErrGroupAuthorizationFailed)
	codeNoGroup = int16(sarama.ErrGroupIDNotFound)
)

// describe describes groups, and waits while the coordinator loads them.
func (c *coordinatorProbe) describe(ctx context.Context, checks []*groupCheck) (map[string]kmsg.DescribeGroupsResponseGroup, error) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	for _, q := range checks {
		req.Groups = append(req.Groups, q.spec.Group)
	}
	slices.Sort(req.Groups)
	req.Groups = slices.Compact(req.Groups)
	for {
		resp, err := c.link.Request(req)
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
	resp, err := c.link.Request(req)
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

// testJoin returns a request that tests whether the coordinator would accept a member: a
// JoinGroup with a member id that does not exist. Kafka checks the permission, the session
// timeout and the protocols before it looks for the member, and then changes nothing. A
// request without a member id would leave a pending member, for which a rebalance of the
// group waits.
func testJoin(spec *config.Consumer) kmsg.Request {
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
func (c *coordinatorProbe) findLeaders(checks []*groupCheck) error {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	req.AllowAutoTopicCreation = false
	for _, q := range checks {
		for _, t := range q.topics {
			if _, known := c.leaders[t]; !known && len(req.Topics) < maxTopics {
				c.leaders[t] = nil
				req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{Topic: kmsg.StringPtr(t)})
			}
		}
	}
	if len(req.Topics) == 0 {
		return nil
	}
	req.Version = 4 // older ones create topics
	resp, err := c.link.Request(req)
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
		var leaders []advertisedBroker
		for _, p := range t.Partitions {
			if n := (advertisedBroker{p.Leader, addrs[p.Leader]}); n.addr != "" && !slices.Contains(leaders, n) {
				leaders = append(leaders, n)
			}
		}
		c.leaders[*t.Topic] = leaders
	}
	return nil
}
