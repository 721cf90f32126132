package dial

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestPinAcceptsBrokersWithoutClusterID: brokers that do not report an id are used.
func TestPinAcceptsBrokersWithoutClusterID(t *testing.T) {
	id := func(s string) *string { return &s }
	for _, c := range []struct {
		pinned      string
		withAddress *string
		then        string
		fails       bool
	}{
		{"", nil, "", false},
		{"", id(""), "", false},
		{"", id("redpanda.initializing"), "", false},
		{"", id("a"), "a", false},
		{"a", nil, "a", false},
		{"a", id(""), "a", false},
		{"a", id("redpanda.initializing"), "a", false},
		{"a", id("a"), "a", false},
		{"a", id("b"), "a", true},
	} {
		p := NewPin(c.pinned)
		err := p.Check("k:9092", c.withAddress)
		if (err != nil) != c.fails || p.ID() != c.then {
			t.Errorf("%+v: the pin is %q, error %v", c, p.ID(), err)
		}
		if c.fails && !strings.HasPrefix(err.Error(), "broker k:9092 belongs to cluster b, but this consumer reads from cluster a: ") {
			t.Errorf("the error is %v", err)
		}
	}
}

// TestConnFailsOncePinMoves: a connection is not used after the pin has moved to another cluster.
func TestConnFailsOncePinMoves(t *testing.T) {
	a, b := "a", "b"
	p := NewPin("")
	_ = p.Check("k:9092", &a)
	client, server := net.Pipe()
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	go func() { _, _ = io.Copy(io.Discard, server) }()
	c := &Conn{Conn: client, pin: p, attempt: &attempt{broker: "k:9092", addresses: new(addresses)}, checked: true, cluster: "a"}
	heartbeat := []byte{0, 0, 0, 10, 0, byte(kmsg.Heartbeat), 0, 0, 0, 0, 0, 0, 0, 0}
	if _, err := c.Write(heartbeat); err != nil {
		t.Errorf("before the pin moves: %v", err)
	}
	_ = p.Check("l:9092", &b)
	if _, err := c.Write(heartbeat); !errors.As(err, new(*ForeignClusterError)) || p.ID() != "b" {
		t.Errorf("after the pin has moved: %v, and the pin is %s", err, p.ID())
	}
}

// TestConnAsksForClusterFirst: the request for the cluster is sent before the request that it holds back,
// once for a connection.
func TestConnAsksForClusterFirst(t *testing.T) {
	client, server := net.Pipe()
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	var got []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			b := make([]byte, 256)
			n, err := server.Read(b)
			if err != nil {
				return
			}
			key := kmsg.Key(int16(b[4])<<8 | int16(b[5]))
			got = append(got, fmt.Sprint(key.Name(), " ", n))
			if key == kmsg.Metadata {
				resp := kmsg.NewPtrMetadataResponse()
				resp.Version, resp.ClusterID = metadataVersion, kmsg.StringPtr("a")
				out := resp.AppendTo([]byte{0, 0, 0, 0, 0, 0, 0, 1})
				out[3] = byte(len(out) - 4)
				if _, err := server.Write(out); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	c := NewPin("a").guard(client, &attempt{broker: "k:9092"})
	request := func(key kmsg.Key) []byte { return []byte{0, 0, 0, 10, 0, byte(key), 0, 0, 0, 0, 0, 0, 0, 0} }
	for _, key := range []kmsg.Key{kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate, kmsg.JoinGroup, kmsg.Heartbeat} {
		if _, err := c.Write(request(key)); err != nil {
			t.Fatal(err)
		}
	}
	_ = client.Close()
	<-done
	if text := strings.Join(got, ", "); text != "ApiVersions 14, SASLHandshake 14, SASLAuthenticate 14, Metadata 26, JoinGroup 14, Heartbeat 14" {
		t.Errorf("the broker got %s", text)
	}
}

// TestPinMovesBeforeItIsFinal: before the pin is final, another cluster can replace the first one. From
// then on, no request is sent to the first one over connections that are still open.
func TestPinMovesBeforeItIsFinal(t *testing.T) {
	pin := NewPin("")
	connection := func(cluster string) *Conn {
		c, s := net.Pipe()
		t.Cleanup(func() { _, _ = c.Close(), s.Close() })
		go func() { _, _ = io.Copy(io.Discard, s) }()
		if err := pin.Check("k:9092", &cluster); err != nil {
			t.Fatal(err)
		}
		g := pin.guard(c, &attempt{broker: "k:9092"})
		g.cluster, g.checked = cluster, true
		return g
	}
	metadata := []byte{0, 0, 0, 10, 0, byte(kmsg.Metadata), 0, 0, 0, 0, 0, 0, 0, 0}
	wrong := connection("b")
	if _, err := wrong.Write(metadata); err != nil {
		t.Fatal(err)
	}
	right := connection("a")
	var foreign *ForeignClusterError
	if _, err := wrong.Write(metadata); !errors.As(err, &foreign) || foreign.Cluster != "b" || foreign.Pinned != "a" {
		t.Errorf("on the connection to the first cluster: %v", err)
	}
	if _, err := right.Write(metadata); err != nil {
		t.Errorf("on the connection to the second cluster: %v", err)
	}
}
