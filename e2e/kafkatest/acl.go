package kafkatest

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/e2e/wait"
)

// Authorizer returns the properties of a cluster on which [Cluster.Deny] works.
func Authorizer() map[string]string {
	return map[string]string{
		"authorizer.class.name":          "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"allow.everyone.if.no.acl.found": "true",
	}
}

// Strict returns the properties of a cluster on which users who have logged in may do only
// what [Cluster.Allow] permits. Clients without a login, such as this package, may do
// everything.
func Strict() map[string]string {
	return map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":           "User:ANONYMOUS",
	}
}

// Deny denies everybody every operation on a topic until allow is called. The cluster
// needs the properties of [Authorizer].
func (c *Cluster) Deny(t testing.TB, topic string) (allow func()) {
	t.Helper()
	acl := newACL("*", kmsg.ACLResourceTypeTopic, topic, kmsg.ACLOperationAll)
	acl.PermissionType = kmsg.ACLPermissionTypeDeny
	return c.addACL(t, acl)
}

// Allow permits a user an operation on a topic or a group, until revoke is called. The
// cluster needs the properties of [Strict].
func (c *Cluster) Allow(t testing.TB, user string, kind kmsg.ACLResourceType, name string, operation kmsg.ACLOperation) (revoke func()) {
	t.Helper()
	acl := newACL(user, kind, name, operation)
	acl.PermissionType = kmsg.ACLPermissionTypeAllow
	return c.addACL(t, acl)
}

func newACL(user string, kind kmsg.ACLResourceType, name string, operation kmsg.ACLOperation) kmsg.CreateACLsRequestCreation {
	acl := kmsg.NewCreateACLsRequestCreation()
	acl.ResourceType, acl.ResourceName, acl.ResourcePatternType = kind, name, kmsg.ACLResourcePatternTypeLiteral
	acl.Principal, acl.Host, acl.Operation = "User:"+user, "*", operation
	return acl
}

// addACL adds an ACL, and returns when every broker enforces it. remove does the opposite.
func (c *Cluster) addACL(t testing.TB, acl kmsg.CreateACLsRequestCreation) (remove func()) {
	t.Helper()
	req := kmsg.NewPtrCreateACLsRequest()
	req.Creations = append(req.Creations, acl)
	Request(t, c, "add an ACL for "+acl.ResourceName, req, func(r *kmsg.CreateACLsResponse) error { return code(r.Results[0].ErrorCode) })
	c.waitACL(t, acl, true)
	return func() {
		t.Helper()
		req, f := kmsg.NewPtrDeleteACLsRequest(), kmsg.NewDeleteACLsRequestFilter()
		f.ResourceType, f.ResourceName, f.ResourcePatternType = acl.ResourceType, &acl.ResourceName, acl.ResourcePatternType
		f.Principal, f.Operation, f.PermissionType = &acl.Principal, acl.Operation, acl.PermissionType
		req.Filters = append(req.Filters, f)
		Request(t, c, "remove an ACL of "+acl.ResourceName, req, func(r *kmsg.DeleteACLsResponse) error { return code(r.Results[0].ErrorCode) })
		c.waitACL(t, acl, false)
	}
}

// waitACL waits until every broker has the ACL, or none. The controller acknowledges a
// change before the brokers apply it.
func (c *Cluster) waitACL(t testing.TB, acl kmsg.CreateACLsRequestCreation, want bool) {
	t.Helper()
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourceName, req.ResourcePatternType = acl.ResourceType, &acl.ResourceName, acl.ResourcePatternType
	req.Principal, req.Operation, req.PermissionType = &acl.Principal, acl.Operation, acl.PermissionType
	wait.For(t, wait.Timeout, "the brokers to apply an ACL of "+acl.ResourceName, func() error {
		return c.everyBroker(func(ctx context.Context, b kmsg.Requestor) error {
			resp, err := req.RequestWith(ctx, b)
			if err == nil {
				err = code(resp.ErrorCode)
			}
			if err == nil && (len(resp.Resources) > 0) != want {
				err = fmt.Errorf("it has %d resources with it", len(resp.Resources))
			}
			return err
		})
	})
}
