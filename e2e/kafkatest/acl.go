package kafkatest

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Authorizer are the properties of a cluster on which [Cluster.Deny] works.
func Authorizer() map[string]string {
	return map[string]string{
		"authorizer.class.name":          "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"allow.everyone.if.no.acl.found": "true",
	}
}

// Strict are the properties of a cluster on which users who have logged in may do
// only what [Cluster.Allow] lets them. Who comes without a login, as this package
// does, may do everything.
func Strict() map[string]string {
	return map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":           "User:ANONYMOUS",
	}
}

// Deny forbids everybody to read and to see a topic until allow is called. The
// cluster needs the properties of [Authorizer].
func (c *Cluster) Deny(t testing.TB, topic string) (allow func()) {
	t.Helper()
	acl := rule("*", kmsg.ACLResourceTypeTopic, topic, kmsg.ACLOperationAll)
	acl.PermissionType = kmsg.ACLPermissionTypeDeny
	return c.rule(t, acl)
}

// Allow lets a user do something with a topic or a group, until revoke is called.
// The cluster needs the properties of [Strict].
func (c *Cluster) Allow(t testing.TB, user string, kind kmsg.ACLResourceType, name string, operation kmsg.ACLOperation) (revoke func()) {
	t.Helper()
	acl := rule(user, kind, name, operation)
	acl.PermissionType = kmsg.ACLPermissionTypeAllow
	return c.rule(t, acl)
}

func rule(user string, kind kmsg.ACLResourceType, name string, operation kmsg.ACLOperation) kmsg.CreateACLsRequestCreation {
	acl := kmsg.NewCreateACLsRequestCreation()
	acl.ResourceType, acl.ResourceName, acl.ResourcePatternType = kind, name, kmsg.ACLResourcePatternTypeLiteral
	acl.Principal, acl.Host, acl.Operation = "User:"+user, "*", operation
	return acl
}

// rule sets a rule, until undo is called.
func (c *Cluster) rule(t testing.TB, acl kmsg.CreateACLsRequestCreation) (undo func()) {
	t.Helper()
	req := kmsg.NewPtrCreateACLsRequest()
	req.Creations = append(req.Creations, acl)
	for _, got := range ask(t, c, req).Results {
		check(t, "set a rule for "+acl.ResourceName, got.ErrorCode)
	}
	return func() {
		req, f := kmsg.NewPtrDeleteACLsRequest(), kmsg.NewDeleteACLsRequestFilter()
		f.ResourceType, f.ResourceName, f.ResourcePatternType = acl.ResourceType, &acl.ResourceName, acl.ResourcePatternType
		f.Principal, f.Operation, f.PermissionType = &acl.Principal, acl.Operation, acl.PermissionType
		req.Filters = append(req.Filters, f)
		for _, got := range ask(t, c, req).Results {
			check(t, "undo a rule for "+acl.ResourceName, got.ErrorCode)
		}
	}
}
