package generation

import (
	"strings"
	"testing"

	"kcagent/fetch"
)

// TestRecordThatFormatsEnlargeIsLarge: a record counts as large also if only its encoded form
// is, because a chunk may have many such records.
func TestRecordThatFormatsEnlargeIsLarge(t *testing.T) {
	part := func(c string) []byte { return []byte(strings.Repeat(c, LargeRecord/4)) }
	for _, tc := range []struct {
		what  string
		r     fetch.Record
		large bool
	}{
		{"text", fetch.Record{Value: part("a")}, false},
		{"zeros", fetch.Record{Value: part("\x00")}, true},
		{"a key of zeros", fetch.Record{Key: part("\x00")}, true},
		{"a header of zeros", fetch.Record{Headers: []fetch.Header{{Value: part("\x00")}}}, true},
		{"some headers", fetch.Record{Headers: make([]fetch.Header, LargeRecord/100)}, false},
		{"many headers", fetch.Record{Headers: make([]fetch.Header, LargeRecord/24)}, true},
	} {
		if got := sizeOf(&tc.r); got >= LargeRecord != tc.large {
			t.Errorf("%s: the size is %d", tc.what, got)
		}
	}
}
