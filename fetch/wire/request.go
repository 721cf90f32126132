package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
	"kcagent/fetch/dial"
)

// Fetch sends a fetch request and reads the response into a frame, within the allowance. The caller
// releases the frame. sarama's own Fetch would allocate an object for each record, which costs as
// much as everything else.
func (c *Conn) Fetch(req *kmsg.FetchRequest, allowance *batch.Allowance) (*batch.Frame, *kmsg.FetchResponse, error) {
	if err := c.prepare(); err != nil {
		return nil, nil, err
	}
	var err error
	if req.Version, err = c.fetchVersion(); err != nil {
		return nil, nil, err
	}
	id, err := c.send(req)
	if err != nil {
		return nil, nil, err
	}
	resp := &kmsg.FetchResponse{Version: req.Version}
	fr, err := c.readResponse(id, resp, allowance)
	return fr, resp, err
}

// send sends a request. The caller reads the response with readResponse.
func (c *Conn) send(req kmsg.Request) (id int32, err error) {
	c.lastID++
	format := kmsg.NewRequestFormatter(kmsg.FormatterClientID(c.conf.ClientID))
	c.buf = format.AppendRequest(c.buf[:0], req, c.lastID)
	_ = c.socket.SetWriteDeadline(time.Now().Add(c.conf.Net.WriteTimeout))
	_, err = c.socket.Write(c.buf)
	return c.lastID, err
}

// readResponse reads the response to the oldest request that has none yet. resp points into the
// frame, which the caller releases. allowance is nil for a response without records.
func (c *Conn) readResponse(id int32, resp kmsg.Response, allowance *batch.Allowance) (*batch.Frame, error) {
	fr, err := c.readFrame(allowance)
	if err != nil {
		return nil, err
	}
	body, err := dial.ResponseBody(fr.Bytes(), id, resp.IsFlexible())
	if err == nil {
		err = resp.ReadFrom(body)
	}
	if err != nil {
		fr.Release()
		return nil, dial.ResponseError{Err: fmt.Errorf("read %s response: %w", strings.ToLower(kmsg.NameForKey(resp.Key())), err)}
	}
	return fr, nil
}

// readFrame reads one response. A broker may take as long as it needs while bytes arrive. With one
// deadline for the whole response, a large one over a slow line would be requested again and again.
func (c *Conn) readFrame(allowance *batch.Allowance) (*batch.Frame, error) {
	var length [4]byte
	_ = c.socket.SetReadDeadline(time.Now().Add(c.timeout))
	if _, err := io.ReadFull(c.socket, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < 4 || allowance == nil && int64(n) > int64(sarama.MaxResponseSize) {
		return nil, dial.ResponseError{Err: fmt.Errorf("invalid response length: %d bytes", n)}
	}
	fr, err := c.newFrame(int64(n), allowance)
	if err != nil {
		return nil, err
	}
	extended, buf := time.Now(), fr.Bytes()
	for at := 0; at < len(buf); {
		got, err := c.socket.Read(buf[at:])
		at += got
		if err != nil && at < len(buf) {
			fr.Release()
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if now := time.Now(); now.Sub(extended) > time.Second {
			extended = now
			_ = c.socket.SetReadDeadline(now.Add(c.timeout))
			if c.progress != nil {
				c.progress.Store(now.UnixNano())
			}
		}
	}
	return fr, nil
}

// newFrame returns the frame for a response of n bytes.
func (c *Conn) newFrame(n int64, allowance *batch.Allowance) (*batch.Frame, error) {
	if allowance == nil {
		return batch.NewFrame(int(n)), nil
	}
	fr, err := allowance.NewFrame(n, func(n int64) []byte {
		start := make([]byte, n)
		got, _ := io.ReadFull(c.socket, start)
		return start[:got]
	})
	if errors.As(err, new(*batch.TooLargeError)) {
		err = dial.ResponseError{Err: err}
	}
	return fr, err
}
