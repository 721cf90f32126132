package dial

import (
	"encoding/binary"
	"errors"
)

// A ResponseError reports that a response cannot be used, as opposed to the connection that
// brought it.
type ResponseError struct{ Err error }

func (e ResponseError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e ResponseError) Unwrap() error { return e.Err }

// ResponseBody takes the response's header off.
func ResponseBody(b []byte, id int32, flexible bool) ([]byte, error) {
	if got := int32(binary.BigEndian.Uint32(b)); got != id {
		return nil, errors.New("it answers another request than the one that was sent")
	}
	if b = b[4:]; !flexible {
		return b, nil
	}
	if len(b) == 0 || b[0] != 0 {
		return nil, errors.New("its header has tags")
	}
	return b[1:], nil
}
