package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kcagent/fetch/batch"
	"kcagent/fetch/dial"
)

// The versions of the fetch request: those since Kafka 0.11, up to the last one
// that calls topics by their names.
const (
	leastFetch = 4
	mostFetch  = 12
)

// Fetch sends one fetch request and reads the answer into a frame, which the
// caller releases and for which there is memory in the room. It uses the connection between two of sarama's requests:
// sarama's own Fetch makes an object of every record, which costs as much as all
// the rest.
func (c *Conn) Fetch(req *kmsg.FetchRequest, ro *batch.Allowance) (*batch.Frame, *kmsg.FetchResponse, error) {
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
	fr, err := c.answer(id, resp, ro)
	return fr, resp, err
}

// send sends a request whose answer is to be read by answer.
func (c *Conn) send(req kmsg.Request) (id int32, err error) {
	c.sent++
	format := kmsg.NewRequestFormatter(kmsg.FormatterClientID(c.conf.ClientID))
	c.out = format.AppendRequest(c.out[:0], req, c.sent)
	_ = c.socket.SetWriteDeadline(time.Now().Add(c.conf.Net.WriteTimeout))
	_, err = c.socket.Write(c.out)
	return c.sent, err
}

// answer reads the answer to the oldest request that has none yet. The caller
// releases the frame, in which the response's bytes lie. ro is nil for a response without
// records.
func (c *Conn) answer(id int32, resp kmsg.Response, ro *batch.Allowance) (*batch.Frame, error) {
	fr, err := c.receive(ro)
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

// receive reads one response. A broker may take its time for it, as long as
// something comes: with one deadline for the whole, a large response over a thin
// line would be asked for again for ever.
func (c *Conn) receive(ro *batch.Allowance) (*batch.Frame, error) {
	var length [4]byte
	_ = c.socket.SetReadDeadline(time.Now().Add(c.patience))
	if _, err := io.ReadFull(c.socket, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < 4 || ro == nil && int64(n) > int64(sarama.MaxResponseSize) {
		return nil, dial.ResponseError{Err: fmt.Errorf("invalid length of a response: %d bytes", n)}
	}
	fr, err := c.frame(int64(n), ro)
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
			_ = c.socket.SetReadDeadline(now.Add(c.patience))
			if c.progress != nil {
				c.progress.Store(now.UnixNano())
			}
		}
	}
	return fr, nil
}

// frame returns the frame for a response of n bytes.
func (c *Conn) frame(n int64, ro *batch.Allowance) (*batch.Frame, error) {
	if ro == nil {
		return batch.NewFrame(int(n)), nil
	}
	fr, err := ro.NewFrame(n, func(n int64) []byte {
		start := make([]byte, n)
		got, _ := io.ReadFull(c.socket, start)
		return start[:got]
	})
	if errors.As(err, new(*batch.TooLargeError)) {
		err = dial.ResponseError{Err: err}
	}
	return fr, err
}

// prepare makes the connection ready for requests that are not sarama's.
func (c *Conn) prepare() error {
	if c.speaks == nil {
		resp, err := c.apiVersions()
		if err != nil {
			return err
		}
		c.speaks = make(map[kmsg.Key]sarama.ApiVersionsResponseKey, len(resp.ApiKeys))
		for _, k := range resp.ApiKeys {
			c.speaks[kmsg.Key(k.ApiKey)] = k
		}
	}
	return c.logInAnew()
}

// fetchVersion is the one of the fetch requests.
func (c *Conn) fetchVersion() (int16, error) {
	k, ok := c.speaks[kmsg.Fetch]
	if !ok {
		return 0, dial.ResponseError{Err: errors.New("broker answers no fetch requests")}
	}
	version := min(mostFetch, k.MaxVersion, fetchVersion(c.conf.Version))
	if version < max(leastFetch, k.MinVersion) {
		return 0, dial.ResponseError{Err: fmt.Errorf("broker speaks fetch versions %d to %d, and kafka_version allows %d at most: it takes Kafka 0.11 or newer",
			k.MinVersion, k.MaxVersion, fetchVersion(c.conf.Version))}
	}
	return version, nil
}

// divergingVersion is the version of the fetch request since which the leader compares epochs
// itself.
const divergingVersion = 12

// ComparesEpochs reports whether the broker compares the leader epochs of positions in fetch
// requests.
func (c *Conn) ComparesEpochs() (bool, error) {
	if err := c.prepare(); err != nil {
		return false, err
	}
	version, err := c.fetchVersion()
	return version >= divergingVersion, err
}

func (c *Conn) apiVersions() (*sarama.ApiVersionsResponse, error) {
	return c.broker.ApiVersions(&sarama.ApiVersionsRequest{
		Version: 3, ClientSoftwareName: "kcagent", ClientSoftwareVersion: "1",
	})
}

// logInAnew keeps the session of a SASL login from ending (KIP-368): a broker
// hangs up on who asks for records after that, and counts it. sarama logs in anew
// before a request of its own, once most of the session has passed; fetches are
// none, so a small one goes before them then.
func (c *Conn) logInAnew() error {
	at := sessionEnds(c.broker)
	if at.IsZero() || time.Now().Before(at) {
		return nil
	}
	_, err := c.apiVersions()
	if err != nil && !errors.Is(err, sarama.ErrSASLAuthenticationFailed) {
		// The connection cannot go on: brokers refuse to log in twice a second.
		return fmt.Errorf("%w: log in anew: %w", net.ErrClosed, err)
	}
	return err
}

// sessionField is where sarama keeps the time, in milliseconds, from which on it
// logs in anew: after 85 to 95 % of what the broker has granted.
var sessionField, hasSessionField = reflect.TypeFor[sarama.Broker]().FieldByName("clientSessionReauthenticationTimeMs")

// sessionEnds is when to log in anew; zero if the session has no end. sarama does
// not tell; should it call the field otherwise one day, the broker ends the session
// and the request is sent again on a new connection. The caller is the only one to
// use b.
func sessionEnds(b *sarama.Broker) time.Time {
	if !hasSessionField || sessionField.Type.Kind() != reflect.Int64 {
		return time.Time{}
	}
	if ms := reflect.ValueOf(b).Elem().FieldByIndex(sessionField.Index).Int(); ms > 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

// fetchVersion is the highest that kafka_version allows.
func fetchVersion(version sarama.KafkaVersion) int16 {
	for _, v := range []struct {
		since sarama.KafkaVersion
		fetch int16
	}{
		{sarama.V2_7_0_0, 12},
		{sarama.V2_3_0_0, 11},
		{sarama.V2_1_0_0, 10},
		{sarama.V2_0_0_0, 8},
		{sarama.V1_1_0_0, 7},
		{sarama.V1_0_0_0, 6},
		{sarama.V0_11_0_0, 5},
	} {
		if version.IsAtLeast(v.since) {
			return v.fetch
		}
	}
	return 0
}
