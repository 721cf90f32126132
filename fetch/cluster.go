package fetch

import (
	"context"
	"net"
	"time"

	"kcagent/fetch/batch"
	"kcagent/fetch/dial"
	"kcagent/fetch/metadata"
	"kcagent/fetch/wire"
)

// Pin returns the pin of the cluster, for connections to its coordinators.
func (f *Fetcher) Pin() *dial.Pin { return f.o.Pin }

// Connect connects to a broker, for requests of the caller's own. See [Dialer.Connect].
func (f *Fetcher) Connect(ctx context.Context, addr string, w dial.Options) (net.Conn, error) {
	c, err := f.dialer.Connect(ctx, addr, w)
	if err != nil {
		return nil, err // not a nil *GuardedConn
	}
	return c, nil
}

// Reach checks that a broker can be used. See [Opener.Reach].
func (f *Fetcher) Reach(ctx context.Context, addr string) error { return f.opener.Reach(ctx, addr) }

// Link connects to a broker and authenticates. The link ends with ctx.
func (f *Fetcher) Link(ctx context.Context, addr string) (*wire.Link, error) {
	return f.opener.Link(ctx, addr)
}

// Refresh asks the cluster for topics. See [Client.Refresh].
func (f *Fetcher) Refresh(ctx context.Context, topics []string) error {
	return f.metadata.Refresh(ctx, topics)
}

// RefreshSince is [Client.RefreshSince].
func (f *Fetcher) RefreshSince(ctx context.Context, topics []string, since time.Time) error {
	return f.metadata.RefreshSince(ctx, topics, since)
}

// Partitions is [Client.Partitions].
func (f *Fetcher) Partitions(topic string) ([]int32, error) { return f.metadata.Partitions(topic) }

// Identity is [Client.Identity].
func (f *Fetcher) Identity(topic string) (cluster, id string) { return f.metadata.Identity(topic) }

// Topics is [Client.Topics].
func (f *Fetcher) Topics(ctx context.Context, maxAge time.Duration) ([]string, error) {
	return f.metadata.Topics(ctx, maxAge)
}

// Coordinator is [Client.Coordinator].
func (f *Fetcher) Coordinator(ctx context.Context, group string) (id int32, addr string, err error) {
	return f.metadata.Coordinator(ctx, group)
}

// What callers of a [Fetcher] need of the packages below.
type (
	Record              = batch.Record
	Header              = batch.Header
	Pin                 = dial.Pin
	Way                 = dial.Options
	Membership          = dial.Membership
	FullError           = dial.FullError
	StrangerError       = dial.StrangerError
	HandshakeError      = dial.HandshakeError
	ForeignClusterError = dial.ForeignClusterError
	Link                = wire.Link
	UnsupportedError    = wire.UnsupportedError
	TopicError          = metadata.TopicError
)

// NewPin is [dial.NewPin].
func NewPin(id string) *Pin { return dial.NewPin(id) }

// ErrEnded is what every call returns once Run has returned.
var ErrEnded = metadata.ErrEnded
