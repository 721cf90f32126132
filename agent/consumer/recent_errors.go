package consumer

import (
	"slices"
	"strings"
	"time"
)

const (
	// maxErrors is the number of errors that are kept for each consumer.
	maxErrors = 10
	// maxErrorText is the maximum length of the text of each, in bytes.
	maxErrorText = 1000
)

// A RecentError is an error of a consumer or of one of its partitions. It is kept after a
// recovery, so that the operator can find out why the consumer failed.
type RecentError struct {
	At    time.Time // when it occurred last
	Text  string
	Count int // how often it has occurred in a row
}

// withError adds an error that has just occurred to errors, newest first. If the newest one has
// the same text, their counts are added. lasted says that the error has not ended since it was
// last added: then it is found behind others, too, so that two partitions that fail and retry
// are two entries. withError does not change errors, which readers of the snapshot share.
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
