package kubernetes

import (
	"encoding/json"
	"os"
	"path/filepath"
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

// podOf returns the pod of the object with a kind in a manifest.
func podOf(t *testing.T, manifest, kind string) kubetest.Pod {
	t.Helper()
	pod, ok := kubetest.PodOf(t, find(t, kubetest.Validate(t, manifest), kind))
	if !ok {
		t.Fatalf("%s has no pods", kind)
	}
	return pod
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
