package consumer

import (
	"slices"
	"strings"
	"time"
)

const (
	// maxErrors is how many errors a consumer remembers.
	maxErrors = 10
	// maxErrorText is how many bytes of the text of each it remembers.
	maxErrorText = 1000
)

// A RecentError is an error of a consumer or of one of its partitions. It is remembered over
// recoveries, so that a user sees why a consumer has failed that works again.
type RecentError struct {
	At    time.Time // when it occurred last
	Text  string
	Count int // how often it has occurred in a row
}

// withError returns the errors, newest first, with one that has just occurred. It counts the
// same error as one, also between others if it has lasted since: two partitions that fail and
// retry are two errors. It does not change errors, which is published.
func withError(errors []RecentError, err error, lasted bool, now time.Time) []RecentError {
	e := RecentError{now, err.Error(), 1}
	if len(e.Text) > maxErrorText {
		e.Text = strings.ToValidUTF8(e.Text[:maxErrorText], "") + "…"
	}
	same := slices.IndexFunc(errors, func(o RecentError) bool { return o.Text == e.Text })
	if same > 0 && !lasted {
		same = -1
	}
	list := append(make([]RecentError, 0, maxErrors+1), e)
	for i, o := range errors {
		if i == same {
			list[0].Count += o.Count
			continue
		}
		list = append(list, o)
	}
	return list[:min(len(list), maxErrors)]
}
