package agent

import "testing"

func TestNotes(t *testing.T) {
	for metadata, want := range map[string]note{
		"":                              {"", -1},
		"by hand":                       {"by hand", -1},
		"kcagent ABC":                   {"kcagent ABC", -1},
		"kcagent ABC began=3":           {"kcagent ABC", 3},
		"kcagent began=0":               {"", 0},
		"kcagent ABC began=":            {"kcagent ABC began=", -1},
		"kcagent ABC began=-2":          {"kcagent ABC began=-2", -1},
		"kcagent ABC began=99999999999": {"kcagent ABC began=99999999999", -1},
	} {
		n := parseNote(metadata)
		if n != want {
			t.Errorf("%q is %+v, want %+v", metadata, n, want)
		}
		if got := n.String(); got != metadata {
			t.Errorf("%+v is left as %q, was %q", n, got, metadata)
		}
	}
}
