package testkit

import (
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// SetCoordinators has the cluster name at(group) as the address of each group's
// coordinator.
func SetCoordinators(cluster *kfake.Cluster, at func(group string) string) {
	cluster.ControlKey(int16(kmsg.FindCoordinator), func(k kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		host, port, err := net.SplitHostPort(at(k.(*kmsg.FindCoordinatorRequest).CoordinatorKey))
		if err != nil {
			return nil, err, true
		}
		n, err := strconv.Atoi(port)
		resp := k.ResponseKind().(*kmsg.FindCoordinatorResponse)
		resp.NodeID, resp.Host, resp.Port = 7, host, int32(n)
		return resp, err, true
	})
}
