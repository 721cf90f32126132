package encode

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"kcagent/sink"
)

// appendRecord appends one record, by a new encoder.
func appendRecord(dst []byte, f sink.Format, r *sink.Record) []byte {
	encoders, err := For(f)
	if err != nil {
		panic(err)
	}
	return encoders(sink.TopicPartition{Topic: r.Topic, Partition: r.Partition}).Append(dst, r)
}

func TestAppendJSON(t *testing.T) {
	at := time.Date(2026, 1, 31, 9, 5, 7, 8_999_999, time.FixedZone("", 3600))
	f := func(r sink.Record, want string) {
		t.Helper()
		got := string(appendRecord([]byte("before:"), sink.JSON, &r))
		if got != "before:"+want+"\n" {
			t.Errorf("got  %swant before:%s", got, want)
		}
	}
	f(sink.Record{Topic: "orders", Partition: 3, Offset: 42, Time: at, Key: []byte("k"), Value: []byte("v")},
		`{"topic":"orders","partition":3,"offset":42,"timestamp":"2026-01-31T08:05:07.008Z","key":"k","value":"v","headers":[]}`)
	f(sink.Record{Topic: "t", Time: at},
		`{"topic":"t","partition":0,"offset":0,"timestamp":"2026-01-31T08:05:07.008Z","key":null,"value":null,"headers":[]}`)
	f(sink.Record{Topic: "t", Key: []byte{}, Value: []byte{}},
		`{"topic":"t","partition":0,"offset":0,"timestamp":null,"key":"","value":"","headers":[]}`)
	f(sink.Record{Topic: "t", Key: []byte{0xff}, Value: []byte("a\xc3")},
		`{"topic":"t","partition":0,"offset":0,"timestamp":null,"key_base64":"/w==","value_base64":"YcM=","headers":[]}`)
	f(sink.Record{Topic: "t", Value: []byte("\"\\/\b\f\n\r\t\x00\x1f\x7f<é\u2028𝄞")},
		`{"topic":"t","partition":0,"offset":0,"timestamp":null,"key":null,"value":"\"\\/\u0008\u000c\n\r\t\u0000\u001f`+"\x7f<é\u2028𝄞"+`","headers":[]}`)
	f(sink.Record{Topic: "t", Headers: []sink.Header{{Key: []byte("h"), Value: []byte("1")}, {Key: []byte("h")}, {Key: []byte{0xfe}, Value: []byte{0xfd}}, {}}},
		`{"topic":"t","partition":0,"offset":0,"timestamp":null,"key":null,"value":null,"headers":[{"key":"h","value":"1"},{"key":"h","value":null},{"key_base64":"/g==","value_base64":"/Q=="},{"key":"","value":null}]}`)
	f(sink.Record{Topic: "t", Key: []byte(`"k"`), Value: []byte("{\"a\":\r\n \"\\n\"}"), KeyJSON: true, ValueJSON: true},
		`{"topic":"t","partition":0,"offset":0,"timestamp":null,"key":"k","value":{"a":   "\n"},"headers":[]}`)
	f(sink.Record{Topic: "t", KeyJSON: true, ValueJSON: true},
		`{"topic":"t","partition":0,"offset":0,"timestamp":null,"key":null,"value":null,"headers":[]}`)
	f(sink.Record{Topic: "a\"\n\xff", Partition: -1, Offset: -1},
		`{"topic":"a\"\n`+"\uFFFD"+`","partition":-1,"offset":-1,"timestamp":null,"key":null,"value":null,"headers":[]}`)
}

func TestAppendRaw(t *testing.T) {
	f := func(value []byte, want string) {
		t.Helper()
		if got := string(appendRecord([]byte("x"), sink.Raw, &sink.Record{Key: []byte("k"), Value: value})); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f([]byte("v"), "xv\n")
	f(nil, "x\n")
	f([]byte("a\nb"), "xa\nb\n")
	f([]byte{0xff, 0}, "x\xff\x00\n")
}

// TestCleanPrefix places each byte at each position of a text, on both sides of the step of eight.
func TestCleanPrefix(t *testing.T) {
	for n := range 20 {
		for at := range n {
			for c := range 256 {
				for _, filler := range []byte{'a', ' ', '!', '#', '[', ']', 0x7f, 0x80, 0xa2, 0xff} {
					b := bytes.Repeat([]byte{filler}, n)
					b[at] = byte(c)
					want := n
					if c < 0x20 || c == '"' || c == '\\' {
						want = at
					}
					if got := cleanPrefix(b); got != want {
						t.Fatalf("cleanPrefix(%q) = %d, want %d", b, got, want)
					}
				}
			}
		}
	}
	// An escaped byte can make the byte above it look escaped; only the lowest counts.
	for _, s := range []string{"\x1f\x20aaaaaa", "\"#aaaaaa", "\\]aaaaaa", "aaaaaa\x00\x20"} {
		if got, want := cleanPrefix([]byte(s)), strings.IndexAny(s, "\x00\x1f\"\\"); got != want {
			t.Errorf("cleanPrefix(%q) = %d, want %d", s, got, want)
		}
	}
}

func TestAppendTime(t *testing.T) {
	for _, ms := range []int64{0, -1, 999, 1700000000123, -62135596800000 + 1, 253402300799999} {
		at := time.UnixMilli(ms)
		want := at.UTC().Format(`"2006-01-02T15:04:05.000Z07:00"`)
		if got := string(new(clock).appendTime(nil, at)); got != want {
			t.Errorf("time of %d ms is %s, want %s", ms, got, want)
		}
	}
	// RFC 3339 has no years before 0 and after 9999: such times are written as the nearest
	// one.
	for ms, want := range map[int64]string{
		math.MinInt64: firstTime, -1 << 62: firstTime, -62167219200001: firstTime, -62167219200000: firstTime,
		253402300799999: lastTime, 253402300800000: lastTime, 1 << 62: lastTime, math.MaxInt64: lastTime,
	} {
		got := string(new(clock).appendTime(nil, time.UnixMilli(ms)))
		if _, err := time.Parse(`"`+time.RFC3339+`"`, got); got != want || err != nil {
			t.Errorf("time of %d ms is %s (%v), want %s", ms, got, err, want)
		}
	}
}

// TestPlainPrefix places each byte at each position of a text.
func TestPlainPrefix(t *testing.T) {
	for _, n := range []int{7, 8, 9, 31, 32, 47, 73} {
		for at := range n {
			for c := range 256 {
				b := bytes.Repeat([]byte{" !#[]a\x7f"[(at+c)%7]}, n)
				b[at] = byte(c)
				want := n
				if c < 0x20 || c == '"' || c == '\\' || c >= 0x80 {
					want = at
				}
				if got := plainPrefix(b); got != want&^7 {
					t.Fatalf("plainPrefix(%q) = %d, want %d", b, got, want&^7)
				}
			}
		}
	}
}

// TestAppendText compares texts with ones that are escaped byte by byte.
func TestAppendText(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	parts := []string{"x", "plain text", "\x00", "\x1f", "\"", "\\", "\n", "\t", "!#[]\x7f ", "é", "𝄞", "\u2028", "\xff", "\xed\xa0\x80"}
	for range 5000 {
		var b []byte
		for kinds := 1 + random.IntN(len(parts)); len(b) < 60 && random.IntN(20) > 0; {
			b = append(b, parts[random.IntN(kinds)]...)
		}
		var want []byte
		for _, c := range b {
			if mustEscape(c) {
				want = appendEscape(want, c)
			} else {
				want = append(want, c)
			}
		}
		dst := make([]byte, 3, 3+random.IntN(70))
		got, ok := appendText(dst, b)
		if ok != utf8.Valid(b) || ok && string(got[3:]) != string(want) || !ok && len(got) != 3 {
			t.Fatalf("appendText(%q) = %q, %v, want %q", b, got[3:], ok, want)
		}
	}
}

// TestEncoderKeepsNothingOfEarlierRecords: an encoder of a partition remembers the second of the last
// record, and appends what a new one appends.
func TestEncoderKeepsNothingOfEarlierRecords(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	encoders, err := For(sink.JSON)
	if err != nil {
		t.Fatal(err)
	}
	const second, day = 1000, 24 * 3600 * 1000
	steps := []int64{0, 1, second - 1, second, 60 * second, 3600 * second, day, 366 * day, 3000 * 366 * day}
	for _, tp := range []sink.TopicPartition{{Topic: "orders"}, {Topic: "orders", Partition: 12}, {Topic: "a\"\xff", Partition: -1}} {
		e := encoders(tp)
		at := int64(0) // a new encoder has not remembered this second
		for range 600 {
			r := sink.Record{Topic: tp.Topic, Partition: tp.Partition, Offset: random.Int64N(1 << 40), Time: time.UnixMilli(at), Value: []byte("v")}
			if random.IntN(10) == 0 {
				r.Time = time.Time{}
			}
			got, want := e.Append(nil, &r), appendRecord(nil, sink.JSON, &r)
			if string(got) != string(want) {
				t.Fatalf("got  %swant %s", got, want)
			}
			checkLine(t, &r, got)
			if at += steps[random.IntN(len(steps))] * int64(1-2*random.IntN(2)); at < -5000*366*day || at > 12_000*366*day {
				at = random.Int64N(1 << 42)
			}
		}
	}
}

// A decoded is an envelope as a reader sees it.
type decoded struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Offset    int64   `json:"offset"`
	Timestamp *string `json:"timestamp"`
	field
	Headers []field `json:"headers"`
}

type field struct {
	Key         *string `json:"key"`
	KeyBase64   *string `json:"key_base64"`
	Value       *string `json:"value"`
	ValueBase64 *string `json:"value_base64"`
}

// bytesOf returns the bytes of a field. Valid UTF-8 must not be in base64.
func bytesOf(t *testing.T, text, encoded *string) []byte {
	t.Helper()
	switch {
	case text != nil && encoded != nil:
		t.Fatal("text and base64 at once")
	case text != nil:
		return []byte(*text)
	case encoded != nil:
		b, err := base64.StdEncoding.DecodeString(*encoded)
		if err != nil || utf8.Valid(b) {
			t.Fatalf("base64 %q: %v", *encoded, err)
		}
		return b
	}
	return nil
}

func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// FuzzAppendJSON checks that every record is one line of valid JSON, from which a reader
// gets the same bytes.
func FuzzAppendJSON(f *testing.F) {
	f.Add("orders", int32(3), int64(42), int64(1700000000123), []byte("key"), []byte(`{"a":"b\n"}`), []byte("h"), []byte("v"), uint8(0))
	f.Add("a.b_c-d", int32(-1), int64(-1), int64(-1), []byte("\xff\xfe"), []byte("\x00\x1f\"\\é\u2028\xed\xa0\x80"), []byte("\xc3"), []byte{}, uint8(5))
	f.Add("\"\n\xff", int32(0), int64(1)<<62, int64(1)<<62, []byte("        \"       \\"), []byte("𝄞"), []byte(nil), []byte("\t"), uint8(15))
	f.Fuzz(func(t *testing.T, topic string, partition int32, offset, ms int64, key, value, hkey, hvalue []byte, nulls uint8) {
		for i, b := range []*[]byte{&key, &value, &hvalue} {
			if nulls&(1<<i) != 0 {
				*b = nil
			} else if *b == nil {
				*b = []byte{}
			}
		}
		r := sink.Record{Topic: topic, Partition: partition, Offset: offset, Time: time.UnixMilli(ms), Key: key, Value: value}
		if nulls&8 == 0 {
			r.Headers = []sink.Header{{Key: hkey, Value: hvalue}, {Key: hvalue, Value: hkey}}
		}
		checkLine(t, &r, appendRecord(nil, sink.JSON, &r))
	})
}

func checkLine(t *testing.T, r *sink.Record, line []byte) {
	t.Helper()
	if bytes.IndexByte(line, '\n') != len(line)-1 {
		t.Fatalf("not one line: %q", line)
	}
	var d decoded
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		t.Fatalf("%v: %q", err, line)
	}
	if d.Topic != strings.ToValidUTF8(r.Topic, "\uFFFD") || d.Partition != r.Partition || d.Offset != r.Offset {
		t.Errorf("place is %q %d %d in %q", d.Topic, d.Partition, d.Offset, line)
	}
	if key, value := bytesOf(t, d.Key, d.KeyBase64), bytesOf(t, d.Value, d.ValueBase64); !same(key, r.Key) || !same(value, r.Value) {
		t.Errorf("key %q, value %q, want %q, %q", key, value, r.Key, r.Value)
	}
	if d.Headers == nil || len(d.Headers) != len(r.Headers) {
		t.Fatalf("headers are %v in %q", d.Headers, line)
	}
	for i, h := range d.Headers {
		want := r.Headers[i]
		if key, value := bytesOf(t, h.Key, h.KeyBase64), bytesOf(t, h.Value, h.ValueBase64); !bytes.Equal(key, want.Key) || !same(value, want.Value) {
			t.Errorf("header %d is %q %q, want %q %q", i, key, value, want.Key, want.Value)
		}
	}
	if r.Time.IsZero() != (d.Timestamp == nil) {
		t.Fatalf("the time is %v in %q", r.Time, line)
	}
	if d.Timestamp != nil {
		at, err := time.Parse(time.RFC3339, *d.Timestamp)
		if year := r.Time.UTC().Year(); err != nil || year >= 0 && year <= 9999 && at.UnixMilli() != r.Time.UnixMilli() {
			t.Errorf("timestamp %q is not %v: %v", *d.Timestamp, r.Time, err)
		}
	}
}
