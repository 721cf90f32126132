package kafka

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// frameOf returns a request as sarama writes it, with a client id.
func frameOf(req kmsg.Request, id int32) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("x")).AppendRequest(nil, req, id)
}

// TestVersionsOfOtherRequestsAreDropped: sarama gets the versions of the requests of a group
// only, also if the response arrives in parts, and then the following response as it is. It gets
// all other bytes unchanged.
func TestVersionsOfOtherRequestsAreDropped(t *testing.T) {
	versions := func(version int16, code int16) []byte {
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.Version, resp.ErrorCode, resp.ThrottleMillis = version, code, 7
		for key := range int16(80) {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MinVersion, k.MaxVersion = key, 1, 2+key
			resp.ApiKeys = append(resp.ApiKeys, k)
		}
		frame := resp.AppendTo([]byte{0, 0, 0, 0, 0, 0, 0, 1})
		binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
		return frame
	}
	for _, c := range []struct {
		version   int16
		response  []byte
		unchanged bool
	}{
		{version: 0, response: versions(0, 0)},
		{version: 3, response: versions(3, 0)},
		{version: 4, response: versions(4, 0)},
		{version: 4, response: versions(0, 35), unchanged: true}, // the broker does not support version 4
		{version: 4, response: []byte("\x00\x00\x00\x06\x00\x00\x00\x01xx"), unchanged: true},
		{version: 4, response: []byte("HTTP/1.1 400 Bad Request"), unchanged: true},
		{version: 4, response: []byte{0, 0, 0, 2, 9, 9}, unchanged: true},
	} {
		near, far := net.Pipe()
		conn := &coordinatorConn{Conn: near, wire: &TrackedConn{}}
		next := []byte{0, 0, 0, 6, 0, 0, 0, 2, 5, 5}
		go func() {
			defer far.Close()
			req := kmsg.NewPtrApiVersionsRequest()
			req.Version = c.version
			_, _ = io.ReadFull(far, make([]byte, len(frameOf(req, 1))))
			_, _ = io.ReadFull(far, make([]byte, len(frameOf(kmsg.NewPtrHeartbeatRequest(), 2))))
			for piece := range slices.Chunk(slices.Concat(c.response, next), 3) {
				_, _ = far.Write(piece)
			}
		}()
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version = c.version
		for piece := range slices.Chunk(slices.Concat(frameOf(req, 1), frameOf(kmsg.NewPtrHeartbeatRequest(), 2)), 7) {
			if _, err := conn.Write(piece); err != nil {
				t.Fatal(err)
			}
		}
		if c.unchanged {
			got := make([]byte, len(c.response))
			if n, err := io.ReadFull(conn, got[:min(len(got), 12)]); err != nil || string(got[:n]) != string(c.response[:n]) {
				t.Errorf("%q has become %q: %v", c.response, got[:n], err)
			}
			near.Close()
			continue
		}
		var head [8]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			t.Fatal(err)
		}
		body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
		if _, err := io.ReadFull(conn, body); err != nil {
			t.Fatal(err)
		}
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.Version = c.version
		if err := resp.ReadFrom(body); err != nil {
			t.Fatal(err)
		}
		var keys []int16
		for _, k := range resp.ApiKeys {
			keys = append(keys, k.ApiKey)
			if k.MinVersion != 1 || k.MaxVersion != 2+k.ApiKey {
				t.Errorf("version %d: %+v", c.version, k)
			}
		}
		if want := []int16{8, 9, 11, 12, 13, 14, 15, 17, 18, 36}; !slices.Equal(keys, want) || head[7] != 1 || c.version > 0 && resp.ThrottleMillis != 7 {
			t.Errorf("version %d: response %d has the requests %v, want %v", c.version, head[7], keys, want)
		}
		got := make([]byte, len(next))
		if _, err := io.ReadFull(conn, got); err != nil || !slices.Equal(got, next) {
			t.Errorf("version %d: the next response is %v, want %v: %v", c.version, got, next, err)
		}
		near.Close()
	}
}

// TestCoordinatorConnRejectsInvalidFrames: a login that writes tokens without frames must
// not be mistaken for requests.
func TestCoordinatorConnRejectsInvalidFrames(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	c := &coordinatorConn{Conn: near, wire: &TrackedConn{}}
	if _, err := c.Write([]byte{0, 0, 0, 3, 'a', 0, 'b'}); err == nil {
		t.Error("a token of 3 bytes was sent as a request")
	}
	if _, err := c.Read(make([]byte, 8)); err == nil {
		t.Error("a response was read although no request was sent")
	}
}
