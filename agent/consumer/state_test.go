package consumer

import (
	"testing"
)

func TestLegalStateChanges(t *testing.T) {
	for _, s := range States {
		if _, ok := moves[s]; !ok {
			t.Errorf("no state changes are listed for %s", s)
		}
		if s != Stopping && s != Created && legal(s, Terminated) {
			t.Errorf("%s may become TERMINATED without STOPPING", s)
		}
	}
	if legal(Created, Running) || legal(Stopping, Running) || !legal(Failing, Paused) {
		t.Error("the table of state changes is wrong")
	}
}
