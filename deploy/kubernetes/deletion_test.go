package kubernetes

import (
	"testing"

	"kcagent/deploy/kubernetes/kubetest"
)

// TestDeletionKeepsTheRecords: no manifest has a namespace or a claim of its own, which its
// deletion would take with all records. The claims of a StatefulSet remain without it, and
// Argo CD neither deletes nor prunes them: it can take a claim for its own by the label
// app.kubernetes.io/instance. TestBaseAgreesWithTheChart extends this to the chart.
func TestDeletionKeepsTheRecords(t *testing.T) {
	sets, applications := 0, 0
	for name, text := range manifests(t) {
		for _, o := range kubetest.Validate(t, text) {
			switch o.Kind {
			case "Namespace", "PersistentVolumeClaim":
				t.Errorf("%s has %s", name, o)
			case "Application":
				applications++
				var a struct {
					Spec struct {
						SyncPolicy struct{ SyncOptions []string }
					}
				}
				o.Decode(t, &a)
				if s := a.Spec.SyncPolicy.SyncOptions; len(s) != 1 || s[0] != "CreateNamespace=true" {
					t.Errorf("%s: %s has the options %q, and nothing else creates the namespace", name, o, s)
				}
			case "StatefulSet":
				sets++
				checkClaims(t, name, o)
			}
		}
	}
	if sets != 4 || applications != 2 {
		t.Errorf("found %d StatefulSets and %d Applications, want 4 and 2", sets, applications)
	}
}

// checkClaims checks that the claims of a StatefulSet remain.
func checkClaims(t *testing.T, name string, set kubetest.Object) {
	t.Helper()
	var s struct {
		Spec struct {
			PersistentVolumeClaimRetentionPolicy struct{ WhenDeleted, WhenScaled string }
			VolumeClaimTemplates                 []struct {
				Metadata struct{ Labels, Annotations map[string]string }
			}
		}
	}
	set.Decode(t, &s)
	if p := s.Spec.PersistentVolumeClaimRetentionPolicy; p.WhenDeleted != "Retain" || p.WhenScaled != "Retain" {
		t.Errorf("%s: %s has the policy %+v", name, set, p)
	}
	if len(s.Spec.VolumeClaimTemplates) != 1 {
		t.Errorf("%s: %s has %d claims, want 1", name, set, len(s.Spec.VolumeClaimTemplates))
	}
	for _, c := range s.Spec.VolumeClaimTemplates {
		_, labelled := c.Metadata.Labels["app.kubernetes.io/instance"]
		if options := c.Metadata.Annotations["argocd.argoproj.io/sync-options"]; labelled || options != "Prune=false,Delete=false" {
			t.Errorf("%s: the claims of %s have %+v", name, set, c.Metadata)
		}
	}
}
