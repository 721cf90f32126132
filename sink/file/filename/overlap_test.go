package filename

import (
	"testing"

	"kcagent/sink"
)

func TestExpand(t *testing.T) {
	got, err := Expand("/d/{topic}/{partition}-{topic}.log", sink.TopicPartition{Topic: "a.b", Partition: 12})
	if err != nil || got != "/d/a.b/12-a.b.log" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestOverlap(t *testing.T) {
	f := func(a string, topicsA []string, b string, topicsB []string, want bool) {
		t.Helper()
		if got := Overlap(a, topicsA, b, topicsB); got != want {
			t.Errorf("Overlap(%q %q, %q %q) = %v", a, topicsA, b, topicsB, got)
		}
		if got := Overlap(b, topicsB, a, topicsA); got != want {
			t.Errorf("Overlap(%q %q, %q %q) = %v", b, topicsB, a, topicsA, got)
		}
	}
	f("/d/a.log", nil, "/d/a.log", nil, true)
	f("/d/a.log", nil, "/d/x/..//a.log", nil, true)
	f("/d/a.log", nil, "/d/b.log", nil, false)
	f("/d/{topic}.log", nil, "/d/a.log", nil, true)
	f("/d/{topic}.log", nil, "/d/.log", nil, false)
	f("/d/{topic}.log", nil, "/d/a/b.log", nil, false)
	f("/d/{topic}.log", []string{"a"}, "/d/a.log", nil, true)
	f("/d/{topic}.log", []string{"a"}, "/d/b.log", nil, false)
	f("/d/{topic}.log", []string{"a", "b"}, "/d/{topic}.log", []string{"c", "b"}, true)
	f("/d/{topic}.log", []string{"a", "b"}, "/d/{topic}.log", []string{"c", "d"}, false)
	f("/d/{topic}.log", []string{"a"}, "/d/{topic}.log", nil, true)
	f("/d/{topic}.log", []string{}, "/d/{topic}.log", nil, false)
	f("/d/{topic}.log", nil, "/e/{topic}.log", nil, false)
	f("/d/{topic}-x.log", []string{"a"}, "/d/{topic}.log", []string{"a-x"}, true)
	f("/d/{topic}-x.log", nil, "/d/{topic}.json", nil, false)
	f("/d/{partition}.log", nil, "/d/7.log", nil, true)
	f("/d/{partition}.log", nil, "/d/7a.log", nil, false)
	f("/d/{partition}.log", nil, "/d/{topic}.log", nil, true)
	f("/d/{topic}{partition}", []string{"a"}, "/d/{topic}{partition}", []string{"a1"}, true)
	f("/d/{topic}{partition}", []string{"a"}, "/d/{topic}{partition}", []string{"b"}, false)
	f("/d/{time:2006/01/02}.log", nil, "/d/2026/11/28.log", nil, true)
	f("/d/{time:2006/01/02}.log", nil, "/d/2026/11/x.log", nil, false)
	f("/d/{time:2006-01-02T15}.log", nil, "/d/2026-11-28U07.log", nil, false)
	f("/d/{time:2006-01-02T15}.log", nil, "/d/2026-11-28T07.log", nil, true)
	f("/d/{time:Jan}/x.log", nil, "/d/Nov/x.log", nil, true)
	f("/d/{time:3PM}.log", nil, "/d/7AM.log", nil, true)
	f("/d/{time:2006}-{topic}.log", []string{"a"}, "/d/{time:2006}-{topic}.log", []string{"b"}, false)
	f("/d/{time:2006}/{topic}.log", []string{"a"}, "/d/{time:2006/15}.log", nil, false)
	f("/d/{time:2006/01}.log", nil, "/d/{partition}/{time:15}.log", nil, true)
	f("/d/{topic}/{partition}.log", []string{"a"}, "/d/{topic}/{partition}.log", []string{"b"}, false)
	f("/d/{topic}/{partition}.log", nil, "/d/{topic}/{partition}.log", nil, true)
}
