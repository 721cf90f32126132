package generation

import (
	"strings"
	"testing"

	"kcagent/sink"
)

// TestRecordThatFormatsEnlargeIsLarge: a record counts as large also if only its encoded form
// is, because a chunk may have many such records.
func TestRecordThatFormatsEnlargeIsLarge(t *testing.T) {
	part := func(c string) []byte { return []byte(strings.Repeat(c, LargeRecord/4)) }
	for _, tc := range []struct {
		what  string
		r     sink.Record
		large bool
	}{
		{"text", sink.Record{Value: part("a")}, false},
		{"zeros", sink.Record{Value: part("\x00")}, true},
		{"a key of zeros", sink.Record{Key: part("\x00")}, true},
		{"a header of zeros", sink.Record{Headers: []sink.Header{{Value: part("\x00")}}}, true},
		{"some headers", sink.Record{Headers: make([]sink.Header, LargeRecord/100)}, false},
		{"many headers", sink.Record{Headers: make([]sink.Header, LargeRecord/24)}, true},
	} {
		if got := sizeOf(&tc.r); got >= LargeRecord != tc.large {
			t.Errorf("%s: the size is %d", tc.what, got)
		}
	}
}
