package dial

import (
	"math"
	"sync/atomic"
	"time"
)

// A Membership records whether a consumer is a member of its group. The zero value is not. Its
// methods are safe for concurrent use.
type Membership struct {
	until atomic.Int64 // Unix nanoseconds
}

// Begin records that a generation began.
func (m *Membership) Begin() { m.until.Store(math.MaxInt64) }

// End records that the generation ended, and for how long the group still keeps the member.
func (m *Membership) End(kept time.Duration) {
	m.until.CompareAndSwap(math.MaxInt64, time.Now().Add(kept).UnixNano())
}

// joined reports whether the group keeps the member.
func (m *Membership) joined() bool { return time.Now().UnixNano() < m.until.Load() }
