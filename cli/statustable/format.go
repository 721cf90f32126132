package statustable

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/clipperhouse/displaywidth"
)

// Unknown stands for a value that is not known.
const Unknown = "-"

// Age returns a duration in its largest unit.
func Age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// Span returns a number of seconds in its largest unit.
func Span(seconds *float64) string {
	switch {
	case seconds == nil:
		return Unknown
	case *seconds > 0 && *seconds < 1:
		return "<1s"
	case *seconds > 999*24*3600: // catching up at a very low rate
		return ">999d"
	}
	return Age(time.Duration(*seconds * float64(time.Second)))
}

// Count returns a number of records in at most five characters.
func Count(n *int64) string {
	if n == nil {
		return Unknown
	}
	return Figure(float64(*n))
}

// Figure returns a number in at most five characters, such as 12.3k.
func Figure(n float64) string {
	if n < 1000 {
		if n == float64(int(n)) || n >= 100 {
			return fmt.Sprintf("%.0f", n)
		}
		return fmt.Sprintf("%.1f", n)
	}
	for _, unit := range []string{"k", "M", "G", "T"} {
		if n /= 1000; n < 1000 || unit == "T" {
			if n < 100 {
				return fmt.Sprintf("%.1f%s", n, unit)
			}
			return fmt.Sprintf("%.0f%s", n, unit)
		}
	}
	return ""
}

// Size returns a number of bytes, such as 12.3 MiB.
func Size(bytes int64) string {
	n, unit := float64(bytes), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for n >= 1024 && unit < len(units)-1 {
		n /= 1024
		unit++
	}
	if unit == 0 || n >= 100 {
		return fmt.Sprintf("%.0f %s", n, units[unit])
	}
	return fmt.Sprintf("%.1f %s", n, units[unit])
}

// Clean returns a text on one line, see also Printable.
func Clean(text string) string {
	if plain(text) && !strings.Contains(text, "  ") && strings.TrimSpace(text) == text {
		return text
	}
	return Printable(strings.Join(strings.Fields(text), " "))
}

// Printable returns a text with � for each character that a terminal would interpret: control
// characters, and those that change the direction of text. Brokers and users choose the names
// of topics and the texts of errors.
func Printable(text string) string {
	if plain(text) {
		return text
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// plain reports whether a text has only printable ASCII characters.
func plain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// Fit shortens a text that needs more than width columns of a terminal. It keeps the start
// or, with tail, the end.
func Fit(text string, width int, tail bool) string {
	const cut = "…"
	switch {
	case ColumnsOf(text) <= width:
		return text
	case width < 1:
		return ""
	case !tail:
		return displaywidth.TruncateString(text, width, cut)
	}
	over := ColumnsOf(text) - width + 1 // columns to remove for the mark
	for g := displaywidth.StringGraphemes(text); over > 0 && g.Next(); {
		over -= g.Width()
		text = text[len(g.Value()):]
	}
	return cut + text
}

// ColumnsOf returns how many columns of a terminal a text needs.
func ColumnsOf(text string) int { return displaywidth.String(text) }

// Wrap returns a text as lines of at most width columns of a terminal, broken at spaces where
// possible.
func Wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && ColumnsOf(line)+1+ColumnsOf(word) <= width {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		for line = word; ColumnsOf(line) > width && width > 0; {
			head := displaywidth.TruncateString(line, width, "")
			if head == "" {
				break
			}
			lines, line = append(lines, head), line[len(head):]
		}
	}
	return append(lines, line)
}
