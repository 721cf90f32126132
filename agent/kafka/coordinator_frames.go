package kafka

import (
	"encoding/binary"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxVersions is larger than any response to an ApiVersions request.
const maxVersions = 64 << 10

// readVersions reads the response to an ApiVersions request, and shortens it as groupVersions
// does. Other bytes are passed on unchanged.
func (c *coordinatorConn) readVersions(version int16) error {
	data := c.in
	for {
		size := 4
		if len(data) >= 4 {
			size += int(binary.BigEndian.Uint32(data))
		}
		if size > maxVersions || len(data) >= 4 && size < 8 {
			break
		}
		if len(data) >= max(size, 8) {
			data = append(groupVersions(data[:size:size], version), data[size:]...)
			break
		}
		// Read as much as there is: if the peer does not speak Kafka, the error quotes its
		// first bytes.
		data = slices.Grow(data, 1<<10)
		n, err := c.Conn.Read(data[len(data):cap(data)])
		if n == 0 {
			c.in = data
			return err
		}
		data = data[:len(data)+n]
	}
	c.in = data
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending[0].read = true
	return nil
}

// groupVersions returns a response to an ApiVersions request, a frame, with only the requests
// that a group sends to its coordinator. It returns the frame unchanged if it is malformed or
// has an error code.
func groupVersions(frame []byte, version int16) []byte {
	resp := kmsg.NewPtrApiVersionsResponse()
	if version < 0 || version > resp.MaxVersion() {
		return frame
	}
	resp.Version = version
	// The header of this response has no tags, whatever its version.
	if err := resp.ReadFrom(frame[8:]); err != nil || resp.ErrorCode != 0 {
		return frame
	}
	resp.ApiKeys = slices.DeleteFunc(resp.ApiKeys, func(k kmsg.ApiVersionsResponseApiKey) bool { return !ofGroup(kmsg.Key(k.ApiKey)) })
	out := resp.AppendTo(frame[:8:8])
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}

// ofGroup reports whether a request goes to a coordinator, or opens a connection to it.
func ofGroup(key kmsg.Key) bool {
	switch key {
	case kmsg.OffsetCommit, kmsg.OffsetFetch, kmsg.JoinGroup, kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.SyncGroup, kmsg.DescribeGroups,
		kmsg.SASLHandshake, kmsg.SASLAuthenticate, kmsg.ApiVersions:
		return true
	}
	return false
}

// memberOf returns the member id in a JoinGroup request, a frame without its length; nil if
// it cannot be read.
func memberOf(frame []byte) *string {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version = int16(binary.BigEndian.Uint16(frame[2:]))
	body, ok := requestBody(frame[8:], req.IsFlexible())
	if !ok || req.ReadFrom(body) != nil {
		return nil
	}
	id := req.MemberID // not a pointer into the request, which would be kept
	return &id
}

// requestBody returns a request without its header; ok is false if the header is incomplete or
// has tags. b begins with the client id; a flexible request has tags behind it.
func requestBody(b []byte, flexible bool) (body []byte, ok bool) {
	if len(b) < 2 {
		return nil, false
	}
	n := int(int16(binary.BigEndian.Uint16(b)))
	if b = b[2:]; n > len(b) {
		return nil, false
	}
	b = b[max(0, n):] // -1 if the request has no client id
	if !flexible {
		return b, true
	}
	if len(b) == 0 || b[0] != 0 {
		return nil, false
	}
	return b[1:], true
}
