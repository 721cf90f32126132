package template

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestElementsAreDividedAtSlashesOfLayouts(t *testing.T) {
	key, err := Parse("{topic}/x{time:2006/01}y/{partition}-{first}-{last}-{topic_id}", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"{topic}", "x{time:2006}", "{time:01}y", "{partition}-{first}-{last}-{topic_id}"}
	if got := key.Elements(); !slices.Equal(got, want) {
		t.Errorf("the elements are %q, want %q", got, want)
	}
}

func TestOverlap(t *testing.T) {
	digits := strings.Repeat("7", offsetDigits)
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"orders", "orders", true},
		{"orders", "refunds", false},
		{"{topic}", "orders", true},
		{"{topic}-x", "orders-y", false},
		{"{topic}", "{partition}", true},
		{"{partition}", "orders", false},
		{"{partition}-{first}", "12-" + digits, true},
		{"{partition}-{first}", "12-" + digits[1:], false},
		{"{partition}-{first}", "12-" + digits + "7", false},
		{"{first}", "{last}", true},
		{"a-{topic_id}", "a-", true},
		{"a-{topic_id}", "a-AbC_-123", true},
		{"a-{topic_id}", "a-AbC_-12", false},
		{"a-{topic_id}", "a-AbC.-123", false},
		{"{topic_id}{topic_id}", "12345678", true},
		{"dt={time:2006-01-02}", "dt=2024-06-30", true},
		{"dt={time:2006-01-02}", "dt=2024/06/30", false},
		{"dt={time:2006-01-02}", "hour={time:15}", false},
		{"{time:Jan _2}", "Feb  3", true},
		{"{name}", "c1", true},
	} {
		if Overlap(c.a, c.b) != c.want || Overlap(c.b, c.a) != c.want {
			t.Errorf("Overlap of %q and %q is %v, want %v", c.a, c.b, !c.want, c.want)
		}
	}
}

// TestElementsThatRenderTheSameOverlap renders random templates: a text that a template renders
// overlaps with the template, and so do two templates that render the same text.
func TestElementsThatRenderTheSameOverlap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"{topic}", "{partition}", "{first}", "{last}", "{topic_id}", "{time:2006}", "{time:Jan}", "{time:_2}", "{time:3PM}", "{time:Monday}", "-", "7", "a", "=", "_"}
	topics, ids := []string{"7", "a", "a-7", "A_.b"}, []string{"", "7777a-__", "abcdefgh-and-more"}
	type rendered struct{ element, text string }
	var all []rendered
	same := 0
	for range 2000 {
		var element strings.Builder
		for range 1 + random.IntN(3) {
			element.WriteString(pieces[random.IntN(len(pieces))])
		}
		parsed, err := Parse(element.String(), nil)
		if err != nil {
			continue
		}
		text, err := parsed.Render(Values{
			Topic: topics[random.IntN(len(topics))], TopicID: ids[random.IntN(len(ids))], Partition: random.Int32N(12),
			First: random.Int64N(3), Last: random.Int64N(3), Time: time.Unix(random.Int64N(1<<32), 0),
		})
		if err != nil {
			t.Fatal(err)
		}
		if !Overlap(element.String(), text) {
			t.Errorf("%q rendered %q, and does not overlap with it", element.String(), text)
		}
		for _, o := range all {
			if o.text != text || o.element == element.String() {
				continue
			}
			if same++; !Overlap(o.element, element.String()) {
				t.Errorf("%q and %q both rendered %q, and do not overlap", o.element, element.String(), text)
			}
		}
		all = append(all, rendered{element.String(), text})
	}
	if same < 100 {
		t.Errorf("only %d pairs rendered the same text", same)
	}
}
