package dial

import (
	"encoding/binary"
	"errors"
)

// A ResponseError reports that the connection works, and that the response cannot be used. Another
// connection would not help.
type ResponseError struct{ Err error }

func (e ResponseError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e ResponseError) Unwrap() error { return e.Err }

// ResponseBody returns the body of a response to the request with the correlation id. flexible says
// that the header of the response may have tags.
func ResponseBody(b []byte, id int32, flexible bool) ([]byte, error) {
	if got := int32(binary.BigEndian.Uint32(b)); got != id {
		return nil, errors.New("invalid response: correlation id of another request")
	}
	if b = b[4:]; !flexible {
		return b, nil
	}
	if len(b) == 0 || b[0] != 0 {
		return nil, errors.New("invalid response: unexpected tags in the header")
	}
	return b[1:], nil
}
