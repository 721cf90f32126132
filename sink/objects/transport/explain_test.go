package transport

import (
	"strings"
	"testing"
)

// TestText: a message of a store has one line, no identifiers, and at most 300 characters.
func TestText(t *testing.T) {
	for message, want := range map[string]string{
		"two\n  lines":                                          "two lines",
		"invalid GOOGLE_APPLICATION_CREDENTIALS":                "invalid GOOGLE_APPLICATION_CREDENTIALS",
		"RequestId:0f3c1a2b-901e-0012-4455-aabbccddeeff denied": "RequestId:… denied",
		strings.Repeat("word ", 100):                            strings.Repeat("word ", 60) + "…",
	} {
		if got := Text(message); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
