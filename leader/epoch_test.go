package leader

import (
	"encoding/json"
	"testing"
)

// TestZeroEpochIsUnknown: the zero value is unknown, and epoch 0 is not.
func TestZeroEpochIsUnknown(t *testing.T) {
	for kafka, text := range map[int32]string{-1: "unknown", -7: "unknown", 0: "0", 5: "5", 1<<31 - 2: "2147483646"} {
		e := NewEpoch(kafka)
		if e.Kafka() != max(kafka, -1) || e.Known() != (kafka >= 0) || e.String() != text {
			t.Errorf("epoch %d is %s, known %v, sent as %d", kafka, e, e.Known(), e.Kafka())
		}
		body, err := json.Marshal(e)
		var back Epoch
		if err != nil || json.Unmarshal(body, &back) != nil || back != e {
			t.Errorf("epoch %d is stored as %s, and read as %s", kafka, body, back)
		}
	}
	if Unknown != (Epoch{}) || Unknown.Known() || NewEpoch(0) == Unknown {
		t.Error("the zero value is not unknown, or epoch 0 is")
	}
	if json.Unmarshal([]byte(`"x"`), new(Epoch)) == nil {
		t.Error("a text is an epoch")
	}
}
