package wire

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A Link is a connection to one broker for requests of the caller. Only one goroutine at a time may
// use it.
type Link struct{ conn *Conn }

// Link connects to a broker and authenticates. The link ends with ctx.
func (o *Opener) Link(ctx context.Context, addr string) (*Link, error) {
	c, err := o.Open(ctx, addr, false)
	if err != nil {
		return nil, err
	}
	return &Link{c}, nil
}

// An UnsupportedError names a request that a broker does not support, or not in the version that is
// needed.
type UnsupportedError string

func (e UnsupportedError) Error() string {
	return fmt.Sprintf("the broker does not support %s requests", string(e))
}

// Request sends a request and waits for the response. It uses the newest version that both sides
// support, at least the one that is set in the request.
func (l *Link) Request(req kmsg.Request) (kmsg.Response, error) {
	resps, err := l.RequestAll([]kmsg.Request{req})
	if err != nil {
		return nil, err
	}
	return resps[0], nil
}

// RequestAll is [Link.Request] for many requests, which do not wait for each other's responses. The responses have
// the order of the requests.
func (l *Link) RequestAll(reqs []kmsg.Request) ([]kmsg.Response, error) {
	if err := l.conn.prepare(); err != nil {
		return nil, err
	}
	var resps []kmsg.Response
	for some := range slices.Chunk(reqs, MaxPipelined) {
		ids := make([]int32, len(some))
		for i, req := range some {
			if err := l.negotiate(req); err != nil {
				return nil, err
			}
			var err error
			if ids[i], err = l.conn.send(req); err != nil {
				return nil, fmt.Errorf("send %s request: %w", strings.ToLower(kmsg.NameForKey(req.Key())), err)
			}
		}
		for i, req := range some {
			resp := req.ResponseKind()
			fr, err := l.conn.readResponse(ids[i], resp, nil)
			if err != nil {
				return nil, err
			}
			fr.Detach() // the response points into it
			fr.Release()
			resps = append(resps, resp)
		}
	}
	return resps, nil
}

// negotiate chooses the version of a request.
func (l *Link) negotiate(req kmsg.Request) error {
	k, ok := l.conn.versions[kmsg.Key(req.Key())]
	version := min(req.MaxVersion(), k.MaxVersion)
	if !ok || version < max(req.GetVersion(), k.MinVersion) {
		return UnsupportedError(kmsg.NameForKey(req.Key()))
	}
	req.SetVersion(version)
	return nil
}

// Close closes the connection.
func (l *Link) Close() { l.conn.Close() }
