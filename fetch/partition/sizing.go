package partition

import (
	"time"

	"kcagent/fetch/batch"
)

// A Sizing is how many bytes to request for a subscription, and what is known of the memory that
// the response needs.
type Sizing struct {
	Bytes  int     // to request; grows up to the maximum of the subscription
	ratio  float64 // bytes of memory for each byte of a response; 0 if it is unknown
	Misses int     // responses in a row without records although there are some
	Barren bool    // in one of them the partition came first, so that others did not displace its records
	Alone  bool    // to be requested alone: a request with others failed because of a batch

	LargeBytes   int64     // memory for large batches that the next batch needs; 0 if none is known
	WaitingSince time.Time // when others first held that memory
}

const (
	// firstBytes is what is requested for a partition at first. How much memory its records
	// need is known once they are decoded.
	firstBytes = 64 << 10
	// guessedRatio is the ratio of a partition of which nothing is known.
	guessedRatio = 4
)

// NewSizing returns the sizing of a partition of which nothing is known.
func NewSizing(maxBytes int) Sizing { return Sizing{Bytes: min(firstBytes, maxBytes)} }

// Request returns how many bytes to request, and how much memory the response is likely to
// need.
func (z *Sizing) Request() (bytes, memory int64) {
	bytes = int64(z.Bytes)
	ratio := z.ratio
	if ratio == 0 {
		ratio = guessedRatio
	}
	return bytes, int64(float64(bytes) * ratio)
}

// Adjust adjusts the size of the next request to the content of a response. The ratio rises at
// once and falls slowly.
func (z *Sizing) Adjust(c *batch.Content, maxBytes int) {
	if c.WireBytes >= int64(z.Bytes)/2 && !c.Deferred {
		z.Bytes = min(z.Bytes*2, maxBytes)
	}
	if ratio := float64(c.MemoryBytes) / float64(max(c.DecodedBytes, 1)); c.DecodedBytes > 1024 || z.ratio == 0 || c.Deferred {
		z.ratio = max(ratio, z.ratio*0.9+ratio*0.1, 1)
	}
}
