package fetch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/e2e/badnet"
	"kcagent/fetch/dial"
)

// connectMember opens a connection of a consumer and waits for a response of the broker.
func (r *rig) connectMember(m *dial.Membership, addr string) (net.Conn, error) {
	conn, err := r.fetcher.Connect(context.Background(), addr, dial.Options{Peer: "it", Member: m, Wrap: func(c net.Conn) (net.Conn, error) { return c, nil }})
	if err != nil {
		return nil, err
	}
	r.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second)) // as sarama does
	return conn, askVersions(conn)
}

// joinedMember returns the membership of a consumer that has joined.
func joinedMember() *dial.Membership {
	m := new(dial.Membership)
	m.Begin()
	return m
}

// askVersions sends a request to the broker, and reads the response.
func askVersions(conn net.Conn) error {
	if _, err := conn.Write(kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrApiVersionsRequest(), 1)); err != nil {
		return err
	}
	var length [4]byte
	_, err := io.ReadFull(conn, length[:])
	if err == nil {
		_, err = io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(length[:])))
	}
	return err
}

// TestFetchEvictsMemberConnection: group members that have taken all connections of a broker do not
// prevent fetching from it.
func TestFetchEvictsMemberConnection(t *testing.T) {
	w := newTwins(t)
	r := w.rig
	const most = 6
	w.Proxy.Set(badnet.Fault{Most: most})
	r.fetcher = r.startAt(smallSettings, w.Proxy.Addr())
	if err := r.fetcher.Refresh(t.Context(), []string{"t"}); err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	var err error
	for {
		conn, e := r.connectMember(joinedMember(), w.Proxy.Addr())
		if err = e; err != nil {
			break
		}
		conns = append(conns, conn)
	}
	want := fmt.Sprintf("broker %s closed the connection before answering, but the cluster has answered others: the broker's limit max.connections.per.ip may be reached (this agent has %d connections to it)", w.Proxy.Addr(), most)
	if len(conns) != most-1 || !strings.HasPrefix(err.Error(), want) { // the metadata client has one
		t.Fatalf("after %d connections: %v", len(conns), err)
	}
	made := w.Proxy.Connections()
	for range 100 { // others wait
		if _, err := r.connectMember(new(dial.Membership), w.Proxy.Addr()); !errors.As(err, new(*dial.ConnectionLimitError)) {
			t.Fatal(err)
		}
	}
	if n := w.Proxy.Connections() - made; n != 0 {
		t.Errorf("%d attempts to connect", n)
	}
	var evicted atomic.Int32
	var beating sync.WaitGroup
	ctx, stop := contextOf(t)
	for _, c := range conns {
		beating.Go(func() {
			for last := false; !last; {
				last = ctx.Err() != nil
				full := new(dial.ConnectionLimitError)
				if err := askVersions(c); errors.As(err, &full) && full.Evicted {
					evicted.Add(1)
					return
				}
				<-time.After(20 * time.Millisecond)
			}
		})
	}
	rd := r.startReader(Spec{}, false)
	w.waitForRecords(rd, 0, 5)
	r.eventually("a member without a connection", func() (bool, any) { return evicted.Load() > 0, len(conns) })
	stop()
	beating.Wait()
	if evicted := int(evicted.Load()); evicted < 1 || evicted > smallSettings.Lanes {
		t.Errorf("%d members lost their connection for %d lanes", evicted, smallSettings.Lanes)
	}
}
