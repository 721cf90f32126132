package sink

import (
	"fmt"
	"io/fs"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Size is a number of bytes.
type Size int64

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"KB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
}

// UnmarshalText parses "512KiB", "8MiB", "1GiB", "10MB" or a plain number of bytes. Sizes
// are integers and not negative.
func (s *Size) UnmarshalText(text []byte) error {
	digits, unit := string(text), int64(1)
	for _, u := range sizeUnits {
		if d, ok := strings.CutSuffix(digits, u.suffix); ok {
			digits, unit = strings.TrimSpace(d), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		if near := otherSize(string(text)); near != "" {
			return fmt.Errorf("invalid size %q: write %s", text, near)
		}
		return fmt.Errorf("invalid size %q: use bytes or a unit such as 512KiB, 8MiB, 1GiB", text)
	}
	*s = Size(n * unit)
	return nil
}

var otherUnit = regexp.MustCompile(`(?i)^(\d+) *([kmgt])(i?b?|ib)$`)

// otherSize returns how to write a size that has a unit of other programs, such as 64M or
// 256Mi; "" if it is not one.
func otherSize(text string) string {
	m := otherUnit.FindStringSubmatch(text)
	switch {
	case m == nil:
		return ""
	case strings.EqualFold(m[3], "b"):
		return m[1] + strings.ToUpper(m[2]) + "B"
	}
	return m[1] + strings.ToUpper(m[2]) + "iB"
}

// String formats the size with the largest unit that divides it.
func (s Size) String() string {
	if s == 0 {
		return "0"
	}
	binary := sizeUnits[:4]
	for _, u := range slices.Backward(binary) {
		if int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText returns [Size.String].
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Mode is the permission bits of a file.
type Mode fs.FileMode

// UnmarshalText parses an octal number such as 0640.
func (m *Mode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(string(text), "0o"), 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("invalid file mode %q: use octal permissions such as \"0640\"", text)
	}
	*m = Mode(n)
	return nil
}

// String formats the mode as UnmarshalText parses it.
func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// MarshalText returns [Mode.String].
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }
