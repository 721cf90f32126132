package partition

import (
	"time"
)

// hiddenFor is how long an error that usually ends by itself, such as the election of a leader, is
// not visible.
const hiddenFor = time.Second

// A Health is whether a subscription can be fetched, and otherwise why not.
type Health struct {
	Err      error     // of the last request; nil if it succeeded
	since    time.Time // when the first error in a row began
	Failures int       // errors in a row
	Visible  bool      // the consumer reports Err
}

// Fail records an error that began at since, and reports whether it is visible. An error that is not
// severe becomes visible only when it lasts.
func (h *Health) Fail(err error, severe bool, since time.Time) (visible bool) {
	if h.Err == nil {
		h.since = since
	}
	h.Err = err
	h.Failures++
	h.Visible = h.Visible || severe || time.Since(h.since) >= hiddenFor
	return h.Visible
}

// Recover records a successful request, and reports whether an error was visible.
func (h *Health) Recover() (wasVisible bool) {
	wasVisible = h.Visible
	h.Err, h.Visible, h.Failures = nil, false, 0
	return wasVisible
}
