package template

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// zone returns a time zone of the IANA database.
func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func parse(t testing.TB, text string, z *time.Location) *Template {
	t.Helper()
	tmpl, err := Parse(text, z)
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

func TestParseRejects(t *testing.T) {
	for text, want := range map[string]string{
		"{key}":                        "unknown placeholder {key}",
		"{}":                           "unknown placeholder {}",
		"{Topic}":                      "unknown placeholder {Topic}",
		"a{topic":                      "without a closing one",
		"a}":                           "without an opening one",
		"{topic}}":                     "without an opening one",
		"{{topic}}":                    "unknown placeholder {{topic}",
		"{topic:x}":                    "has a layout",
		"{time}":                       "no layout",
		"{time:}":                      "no layout",
		"{time:yyyy-MM-dd}":            "no element of a time",
		"{time:%Y/%m/%d}":              "no element of a time",
		"{time:15:04:05.000}":          "fractions of a second",
		"{time:15:04:05,999}":          "fractions of a second",
		"{time:2006}/{time:05.9}":      "fractions of a second",
		"{time:2006-01-02T15Z07:00}":   "contains a time zone",
		"{time:2006-01-02 MST}":        "contains a time zone",
		"{time:2006 -07}":              "contains a time zone",
		"a\n{topic}":                   "control character",
		"a\x7f":                        "control character",
		"{time:2006\x00}":              "control character",
		"a\xff":                        "control character",
		"../{topic}":                   "the path element",
		"{topic}/./x":                  "the path element",
		"{topic}/..":                   "the path element",
		"{topic}/{time:2006/../01}":    "the path element",
		"{topic}/.{topic_id}":          "the path element",
		"{topic}/.{topic_id}./{first}": "the path element",
	} {
		_, err := Parse(text, nil)
		if named, ok := errors.AsType[*Error](err); !ok || !strings.Contains(named.Cause, want) || named.Hint == "" {
			t.Errorf("%q: %v, want %q and a hint", text, err, want)
		}
	}
}

var values = Values{
	Name: "orders-archive", Topic: "a.b-c_D", Partition: 12, First: 5, Last: 1234567890123456789,
	TopicID: "abcdEFGH-_0123", Time: time.Date(2026, 3, 9, 23, 5, 7, 999e6, time.UTC),
}

func TestRender(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	kathmandu := zone(t, "Asia/Kathmandu")
	for _, tc := range []struct {
		text string
		zone *time.Location
		want string
	}{
		{"x.log", nil, "x.log"},
		{"/d/{name}/{topic}/{partition}-{first}-{last}-{topic_id}", nil, "/d/orders-archive/a.b-c_D/12-00000000000000000005-01234567890123456789-abcdEFGH"},
		{"{topic}/{topic}", nil, "a.b-c_D/a.b-c_D"},
		{"{time:2006/01/02/15}", nil, "2026/03/09/23"},
		{"{time:2006/01/02/15}", berlin, "2026/03/10/00"},
		{"{time:2006-01-02T15:04:05}", kathmandu, "2026-03-10T04:50:07"},
		{"y={time:2006}/m={time:01}", berlin, "y=2026/m=03"},
		{"ü{partition}", nil, "ü12"},
	} {
		got, err := parse(t, tc.text, tc.zone).Render(values)
		if err != nil || got != tc.want {
			t.Errorf("%q: %q, %v, want %q", tc.text, got, err, tc.want)
		}
	}
}

// TestRenderOfOddTimes: a record without a timestamp has that of 1970, and years have four digits.
func TestRenderOfOddTimes(t *testing.T) {
	tmpl := parse(t, "{time:2006-01-02T15:04:05}", nil)
	for want, at := range map[string]time.Time{
		"1970-01-01T00:00:00": {},
		"0000-01-01T00:00:00": time.UnixMilli(-1 << 63),
		"9999-12-31T23:59:59": time.UnixMilli(1<<63 - 1),
	} {
		if got, err := tmpl.Render(Values{Time: at}); err != nil || got != want {
			t.Errorf("%v: %q, %v, want %q", at, got, err, want)
		}
	}
	got, err := parse(t, "{time:2006-01-02T15:04:05}", zone(t, "America/New_York")).Render(Values{})
	if want := "1969-12-31T19:00:00"; err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// TestValuesStayInTheirPlace: a value that could lead to another folder is an error.
func TestValuesStayInTheirPlace(t *testing.T) {
	everything := parse(t, "{name}/{topic}/{partition}-{first}-{last}-{topic_id}", nil)
	for what, change := range map[string]func(*Values){
		"no topic":              func(v *Values) { v.Topic = "" },
		"topic .":               func(v *Values) { v.Topic = "." },
		"topic ..":              func(v *Values) { v.Topic = ".." },
		"separator":             func(v *Values) { v.Topic = "a/b" },
		"backslash":             func(v *Values) { v.Topic = `a\b` },
		"control":               func(v *Values) { v.Topic = "a\nb" },
		"zero byte":             func(v *Values) { v.Topic = "a\x00" },
		"letter":                func(v *Values) { v.Topic = "ä" },
		"plus":                  func(v *Values) { v.Topic = "a+checkpoint" },
		"long topic":            func(v *Values) { v.Topic = strings.Repeat("t", 250) },
		"no name":               func(v *Values) { v.Name = "" },
		"name with separator":   func(v *Values) { v.Name = "a/../b" },
		"name with control":     func(v *Values) { v.Name = "a\x1b" },
		"name ..":               func(v *Values) { v.Name = ".." },
		"negative partition":    func(v *Values) { v.Partition = -1 },
		"negative first":        func(v *Values) { v.First = -1 },
		"negative last":         func(v *Values) { v.Last = -1 },
		"topic id, separator":   func(v *Values) { v.TopicID = "/etc" },
		"topic id with a point": func(v *Values) { v.TopicID = "..aaaaaa" },
	} {
		v := values
		change(&v)
		if got, err := everything.Render(v); err == nil {
			t.Errorf("%s: %q", what, got)
		}
	}
	if _, err := everything.Render(values); err != nil {
		t.Error(err)
	}
	dots := parse(t, "x/.{name}", nil)
	if got, err := dots.Render(Values{Name: "."}); err == nil {
		t.Errorf("an element of two parts: %q", got)
	}
}

func TestPlaceholders(t *testing.T) {
	tmpl := parse(t, "/d/{topic}/{time:2006}/{time:01}/{topic}-{first}", nil)
	if got := strings.Join(tmpl.Placeholders(), " "); got != "topic time first" {
		t.Error(got)
	}
	if !tmpl.Has(First) || !tmpl.Has(Time) || tmpl.Has(Last) {
		t.Error("Has is wrong")
	}
}

// TestMatchIsTheReverseOfRender, for the placeholders that each template has.
func TestMatchIsTheReverseOfRender(t *testing.T) {
	unknown := values
	unknown.TopicID = ""
	digits := values
	digits.Topic = "a-1-2"
	for _, text := range []string{
		"x.log", "{topic}-{partition}.json", "{topic}/{partition}-{first}-{last}-{topic_id}", "{topic}{first}{last}{topic_id}",
		"{topic_id}{topic}/{partition}", "{topic}/{topic}-{partition}", "{topic}/dt={time:2006-01-02}/{partition}-{first}", "{topic}{time:20060102}{first}.gz",
		"{time:Monday 15}/{topic}/{name}", "{time:2006}/{time:01/2}/{topic}",
	} {
		tmpl := parse(t, text, zone(t, "Europe/Berlin"))
		for _, v := range []Values{values, unknown, digits} {
			path, err := tmpl.Render(v)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := tmpl.Match(path)
			if again, err := tmpl.Render(withTime(got, v.Time)); !ok || err != nil || again != path {
				t.Errorf("%q: %q is %+v, %v, which is %q", text, path, got, ok, again)
			}
			if tmpl.Has(Topic) && !strings.HasPrefix(text, "{topic_id}{topic}") && got.Topic != v.Topic ||
				tmpl.Has(Partition) && got.Partition != v.Partition || tmpl.Has(First) && got.First != v.First || tmpl.Has(Last) && got.Last != v.Last ||
				tmpl.Has(Name) && got.Name != v.Name {
				t.Errorf("%q: %q is %+v, want %+v", text, path, got, v)
			}
		}
	}
}

func withTime(v Values, at time.Time) Values {
	v.Time = at
	return v
}

func TestMatchRejects(t *testing.T) {
	const ten = "0000000000"
	for _, tc := range []struct{ text, path string }{
		{"x.log", "x.logs"},
		{"x.log", "x.lo"},
		{"{topic}", "a/b"},
		{"{topic}", ""},
		{"{topic}", ".."},
		{"{topic}", "a+"},
		{"{partition}", "01"},
		{"{partition}", "-1"},
		{"{partition}", "+1"},
		{"{partition}", "9999999999"},
		{"{first}", ten},
		{"{first}", "+" + ten + "000000000"},
		{"{first}", ten + ten + "0"},
		{"{first}", "99999999999999999999"},
		{"{topic_id}", "abc"},
		{"{topic_id}", "abcdefg."},
		{"{topic}/{topic}", "a/b"},
		{"{time:2006/01/02}", "2026/13/02"},
		{"{time:2006/01/02}", "2026/01"},
		{"{time:2006}-{topic}", "-a"},
		{"{name}", "a/b"},
		{"{name}", ""},
	} {
		if v, ok := parse(t, tc.text, nil).Match(tc.path); ok {
			t.Errorf("%q matches %q: %+v", tc.text, tc.path, v)
		}
	}
}

func BenchmarkRender(b *testing.B) {
	tmpl := parse(b, "{topic}/{time:2006/01/02/15}/{partition}-{first}-{last}-{topic_id}", nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tmpl.Render(values); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRenderAllocatesOnlyTheText: the hot path of a sink renders for each chunk of records.
func TestRenderAllocatesOnlyTheText(t *testing.T) {
	tmpl := parse(t, "{topic}/{time:2006/01/02/15}/{partition}-{first}-{last}-{topic_id}", zone(t, "Europe/Berlin"))
	if n := testing.AllocsPerRun(100, func() {
		if _, err := tmpl.Render(values); err != nil {
			t.Fatal(err)
		}
		tmpl.Window(values.Time)
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
