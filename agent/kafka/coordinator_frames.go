package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxVersions is larger than any response to an ApiVersions request.
const maxVersions = 64 << 10

// readVersions reads the response to an ApiVersions request, and returns it as
// groupVersions does. It returns nil if what the peer sends is no such response; the caller then
// reads it as any other response.
func (c *coordinatorConn) readVersions(version int16) ([]byte, error) {
	data := slices.Clone(c.in)
	c.in = nil
	for size := 4; ; {
		if len(data) >= 4 {
			size = 4 + int(binary.BigEndian.Uint32(data))
		}
		if size > maxVersions || len(data) >= 4 && size < 8 {
			c.in = data
			return nil, nil
		}
		if len(data) >= max(size, 8) {
			if len(data) > size {
				c.in = data[size:]
			}
			return groupVersions(data[:size:size], version), nil
		}
		// Read as much as there is: if the peer does not speak Kafka, the error quotes its
		// first bytes.
		data = slices.Grow(data, 1<<10)
		n, err := c.Conn.Read(data[len(data):cap(data)])
		if n == 0 {
			c.in = data
			return nil, err
		}
		data = data[:len(data)+n]
	}
}

// groupVersions returns a response to an ApiVersions request, a frame, with only the requests
// that a group sends to its coordinator. It returns the frame itself if it cannot be read, or
// reports an error.
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

// noOffsets returns the response to an OffsetFetch request, which is given as a frame
// without its length. The response has no committed offset for any partition.
func noOffsets(frame []byte) ([]byte, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	version, id := int16(binary.BigEndian.Uint16(frame[2:])), frame[4:8]
	if version < 0 || version > req.MaxVersion() {
		return nil, fmt.Errorf("unknown version %d", version)
	}
	req.Version = version
	body, err := requestBody(frame[8:], req.IsFlexible())
	if err == nil {
		err = req.ReadFrom(body)
	}
	if err != nil {
		return nil, err
	}
	resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
	for _, t := range req.Topics {
		answer := kmsg.NewOffsetFetchResponseTopic()
		answer.Topic = t.Topic
		for _, id := range t.Partitions {
			p := kmsg.NewOffsetFetchResponseTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = id, -1, -1, kmsg.StringPtr("")
			answer.Partitions = append(answer.Partitions, p)
		}
		resp.Topics = append(resp.Topics, answer)
	}
	for _, g := range req.Groups {
		group := kmsg.NewOffsetFetchResponseGroup()
		group.Group = g.Group
		for _, t := range g.Topics {
			answer := kmsg.NewOffsetFetchResponseGroupTopic()
			answer.Topic, answer.TopicID = t.Topic, t.TopicID
			for _, id := range t.Partitions {
				p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
				p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = id, -1, -1, kmsg.StringPtr("")
				answer.Partitions = append(answer.Partitions, p)
			}
			group.Topics = append(group.Topics, answer)
		}
		resp.Groups = append(resp.Groups, group)
	}
	out := append(make([]byte, 4, 64), id...)
	if resp.IsFlexible() {
		out = append(out, 0) // no tags
	}
	out = resp.AppendTo(out)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out, nil
}

// memberOf returns the member id in a JoinGroup request, a frame without its length; nil if
// it cannot be read.
func memberOf(frame []byte) *string {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version = int16(binary.BigEndian.Uint16(frame[2:]))
	body, err := requestBody(frame[8:], req.IsFlexible())
	if err != nil || req.ReadFrom(body) != nil {
		return nil
	}
	return &req.MemberID
}

var errShortRequest = errors.New("request header is incomplete")

// requestBody returns a request without its header. b begins with the client id; a flexible
// request has tags behind it.
func requestBody(b []byte, flexible bool) ([]byte, error) {
	if len(b) < 2 {
		return nil, errShortRequest
	}
	n := int(int16(binary.BigEndian.Uint16(b)))
	if b = b[2:]; n > len(b) {
		return nil, errShortRequest
	}
	b = b[max(0, n):] // -1 if the request has no client id
	if !flexible {
		return b, nil
	}
	if len(b) == 0 || b[0] != 0 {
		return nil, errors.New("request header has tags")
	}
	return b[1:], nil
}
