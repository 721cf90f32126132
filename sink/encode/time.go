package encode

import "time"

// firstTime and lastTime limit what RFC 3339 can express. Producers may send any number of
// milliseconds; a time outside the limits is written as the nearer limit.
const (
	firstTime = `"0000-01-01T00:00:00.000Z"`
	lastTime  = `"9999-12-31T23:59:59.999Z"`
)

// The seconds of firstTime and lastTime since 1970.
const (
	firstSecond = -62167219200
	lastSecond  = 253402300799
)

// A clock appends times. It remembers the text of the last second, because most records of a
// partition have the same second as the record before them. The zero value is ready to use.
type clock struct {
	second int64
	text   [len(`"2006-01-02T15:04:05.`)]byte // of second; zero before the first time
}

// appendTime appends t as RFC 3339 in UTC with milliseconds. The zero time, which is a
// record without a timestamp, is null.
func (c *clock) appendTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(dst, "null"...)
	}
	if second := t.Unix(); second != c.second || c.text[0] == 0 {
		switch {
		case second < firstSecond:
			return append(dst, firstTime...)
		case second > lastSecond:
			return append(dst, lastTime...)
		}
		c.second = second
		t.UTC().AppendFormat(c.text[:0], `"2006-01-02T15:04:05.`)
	}
	dst = append(dst, c.text[:]...)
	ms := t.Nanosecond() / int(time.Millisecond)
	return append(dst, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z', '"')
}
