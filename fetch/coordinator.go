package fetch

import (
	"context"
	"net"
	"slices"
	"strconv"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// pipeline is how many requests are sent before the first answer is read.
const pipeline = 64

// Coordinator asks which broker coordinates a group. Many calls at a time do not
// wait for each other's answers.
func (f *Fetcher) Coordinator(ctx context.Context, group string) (id int32, addr string, err error) {
	a := &ask{group: group}
	if err := f.put(ctx, a); err != nil {
		return 0, "", err
	}
	return a.id, a.addr, nil
}

// coordinators answers such asks, many on the way at a time: a thousand groups that
// start would wait a thousand times for a broker that is far away. sarama's broker
// sends a request only after the answer to the one before.
func (r *router) coordinators(ctx context.Context, asks []*ask) {
	for some := range slices.Chunk(asks, pipeline) {
		var codes []sarama.KError
		err := r.ask(ctx, func(c *conn) (err error) {
			codes, err = c.findCoordinators(some)
			return err
		})
		if err != nil {
			r.hangUp() // answers may be under way that nobody reads
		}
		for i, a := range some {
			switch {
			case err != nil:
				a.answer(err)
			case codes[i] != sarama.ErrNoError:
				a.answer(codes[i])
			default:
				a.answer(nil)
			}
		}
	}
}

// findCoordinators fills in what is asked, or returns for each why it is not known.
// Its error concerns all.
func (c *conn) findCoordinators(asks []*ask) ([]sarama.KError, error) {
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
	for i, a := range asks {
		req.CoordinatorKey = a.group
		id, err := c.send(req)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			first = id
		}
	}
	codes := make([]sarama.KError, len(asks))
	for i, a := range asks {
		resp := &kmsg.FindCoordinatorResponse{Version: req.Version}
		fr, err := c.answer(first+int32(i), resp, nil)
		if err != nil {
			return nil, err
		}
		codes[i] = sarama.KError(resp.ErrorCode)
		a.id, a.addr = resp.NodeID, net.JoinHostPort(resp.Host, strconv.Itoa(int(resp.Port)))
		fr.release()
	}
	return codes, nil
}
