package partition

import (
	"strings"
	"testing"

	"kcagent/leader"
)

// TestTruncatedErrorNamesNextStep: the error says how to continue, also if no offset is known.
func TestTruncatedErrorNamesNextStep(t *testing.T) {
	e := TruncatedError{"t", 3, 500, leader.NewEpoch(4), 350, leader.NewEpoch(7), -1}
	want := "log of t/3 was truncated: it diverges at offset 350 from what was consumed up to offset 500 in leader epoch 4, the leader epoch is now 7, " +
		"and on_offset_out_of_range is fail: choose earliest or latest to continue at offset 350, or stop the consumer and reset the group's offsets"
	if e.Error() != want {
		t.Errorf("got  %s\nwant %s", e.Error(), want)
	}
	e.Diverging = -1
	if !strings.Contains(e.Error(), "has no leader epoch in common with what was consumed up to offset 500") || strings.Contains(e.Error(), "-1") {
		t.Error(e.Error())
	}
}
