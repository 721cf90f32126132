package decode

import (
	"errors"
	"strings"
	"testing"

	"kcagent/sink"
)

func TestDecode(t *testing.T) {
	both := Decoder{Key: true, Value: true}
	for _, c := range []struct {
		name       string
		decoder    Decoder
		key, value string // "" is null
		want       string // the error; "" for none
	}{
		{"object", both, `"k"`, `{"a": [1, null]}`, ""},
		{"number, with blanks and line breaks around", both, "\n1", " 2\r\n", ""},
		{"null key and value", both, "", "", ""},
		{"not decoded", Decoder{}, "k", "v", ""},
		{"only the value", Decoder{Value: true}, "k", "1", ""},
		{"only the key", Decoder{Key: true}, "1", "v", ""},
		{"text", both, "1", "secret", "value is not valid JSON: syntax error at byte 1"},
		{"bad key", both, "secret", "1", "key is not valid JSON: syntax error at byte 1"},
		{"two values", both, "1", "1 2", "value is not valid JSON: syntax error at byte 3"},
		{"incomplete", both, "1", `{"a":`, "value is not valid JSON: syntax error at byte 5"},
		{"only blanks", both, "1", " \n", "value is not valid JSON: it is empty"},
		{"line break in a text", both, "1", "\"a\nb\"", "value is not valid JSON: syntax error at byte 3"},
		{"invalid UTF-8 in a text", both, "1", "\"\xff\"", "value is not valid JSON: it contains invalid UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := sink.Record{Key: orNull(c.key), Value: orNull(c.value), KeyJSON: true, ValueJSON: true}
			err := c.decoder.Decode(&r)
			if c.want == "" {
				if err != nil || r.KeyJSON != c.decoder.Key || r.ValueJSON != c.decoder.Value {
					t.Errorf("%v, marked %v and %v", err, r.KeyJSON, r.ValueJSON)
				}
				return
			}
			if err == nil || err.Error() != c.want || r.KeyJSON || r.ValueJSON {
				t.Fatalf("%v, marked %v and %v; want %s", err, r.KeyJSON, r.ValueJSON, c.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("%v contains the record", err)
			}
			if e := new(Error); !errors.As(err, &e) || !strings.HasPrefix(c.want, string(e.Part)) {
				t.Errorf("%v is about another part", err)
			}
		})
	}
	empty := sink.Record{Value: []byte{}}
	if err := both.Decode(&empty); err == nil || err.Error() != "value is not valid JSON: it is empty" {
		t.Errorf("an empty value: %v", err)
	}
}

func orNull(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}
