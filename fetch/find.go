package fetch

import (
	"net"
	"strconv"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// pipeline is how many requests are sent before the first answer is read.
const pipeline = 64

// A coordinator is the broker that coordinates a group, or err, which says why that is not
// known.
type coordinator struct {
	id   int32
	addr string
	err  error
}

// findCoordinators asks for the coordinators of groups, which are pipeline at most. All requests
// are sent before the first response is read.
func (c *Conn) findCoordinators(groups []string) ([]coordinator, error) {
	if err := c.prepare(); err != nil {
		return nil, err
	}
	req := kmsg.NewPtrFindCoordinatorRequest()
	switch { // from 3 on the request has another form, and brings nothing new for one group
	case c.conf.Version.IsAtLeast(sarama.V2_0_0_0):
		req.Version = 2
	case c.conf.Version.IsAtLeast(sarama.V0_11_0_0):
		req.Version = 1
	}
	req.Version = min(req.Version, c.speaks[kmsg.FindCoordinator].MaxVersion)
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
	found := make([]coordinator, len(groups))
	for i := range groups {
		resp := &kmsg.FindCoordinatorResponse{Version: req.Version}
		fr, err := c.answer(first+int32(i), resp, nil)
		if err != nil {
			return nil, err
		}
		found[i] = coordinator{id: resp.NodeID, addr: net.JoinHostPort(resp.Host, strconv.Itoa(int(resp.Port)))}
		if resp.ErrorCode != 0 {
			found[i].err = sarama.KError(resp.ErrorCode)
		}
		fr.release()
	}
	return found, nil
}
