package wire

import (
	"net"
	"strconv"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// MaxPipelined is how many requests are sent before the first response is read.
const MaxPipelined = 64

// A Coordinator is the broker that coordinates a group, or the error Err of its lookup.
type Coordinator struct {
	ID   int32
	Addr string
	Err  error
}

// FindCoordinators asks for the coordinators of groups, at most MaxPipelined of them, in the same
// order. All requests are sent before the first response is read. After an error, the connection
// must be closed, because responses may still arrive.
func (c *Conn) FindCoordinators(groups []string) ([]Coordinator, error) {
	if err := c.prepare(); err != nil {
		return nil, err
	}
	req := kmsg.NewPtrFindCoordinatorRequest()
	switch { // later versions have another form, and nothing new for a single group
	case c.conf.Version.IsAtLeast(sarama.V2_0_0_0):
		req.Version = 2
	case c.conf.Version.IsAtLeast(sarama.V0_11_0_0):
		req.Version = 1
	}
	req.Version = min(req.Version, c.versions[kmsg.FindCoordinator].MaxVersion)
	var first int32
	for i, group := range groups {
		req.CoordinatorKey = group
		id, err := c.send(req)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			first = id
		}
	}
	found := make([]Coordinator, len(groups))
	for i := range groups {
		resp := &kmsg.FindCoordinatorResponse{Version: req.Version}
		fr, err := c.readResponse(first+int32(i), resp, nil)
		if err != nil {
			return nil, err
		}
		found[i] = Coordinator{ID: resp.NodeID, Addr: net.JoinHostPort(resp.Host, strconv.Itoa(int(resp.Port)))}
		if resp.ErrorCode != 0 {
			found[i].Err = sarama.KError(resp.ErrorCode)
		}
		fr.Release()
	}
	return found, nil
}
