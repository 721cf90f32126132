package kubernetes

import (
	"encoding/json"
	"testing"

	"kcagent/deploy/kubernetes/kubetest"
)

func equal(t *testing.T, a, b kubetest.Object) bool {
	t.Helper()
	return marshal(t, a) == marshal(t, b)
}

// marshal returns the object with its keys in order.
func marshal(t *testing.T, o kubetest.Object) string {
	t.Helper()
	text, err := json.MarshalIndent(o.Fields, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
