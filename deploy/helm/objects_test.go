package helm

import (
	"errors"
	"io"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// A manifest is one rendered object, as far as the tests read it.
type manifest struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct {
		Name        string
		Namespace   string
		Labels      map[string]string
		Annotations map[string]string
	}
	Data map[string]string
	Spec yaml.Node
}

// parse returns the manifests of a rendered text by kind and name.
func parse(t *testing.T, text string) map[string]manifest {
	t.Helper()
	found := make(map[string]manifest)
	for d := yaml.NewDecoder(strings.NewReader(text)); ; {
		var m manifest
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		key := m.Kind + " " + m.Metadata.Name
		if _, again := found[key]; again || m.Kind == "" {
			t.Fatalf("%q is rendered twice, or without a kind", key)
		}
		found[key] = m
	}
}

// render renders the chart and parses the result.
func render(t *testing.T, args ...string) map[string]manifest {
	t.Helper()
	out, err := template(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, out)
}

// get returns a manifest that must exist, and decodes its spec into spec.
func get(t *testing.T, from map[string]manifest, key string, spec any) manifest {
	t.Helper()
	m, ok := from[key]
	if !ok {
		t.Fatalf("there is no %s", key)
	}
	if spec != nil {
		if err := m.Spec.Decode(spec); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
	return m
}

// A podSpec is a pod, as far as the tests read it.
type podSpec struct {
	TerminationGracePeriodSeconds int            `yaml:"terminationGracePeriodSeconds"`
	AutomountServiceAccountToken  *bool          `yaml:"automountServiceAccountToken"`
	SecurityContext               map[string]any `yaml:"securityContext"`
	Containers                    []container
	Volumes                       []volume
}

type volume struct {
	Name      string
	EmptyDir  map[string]string      `yaml:"emptyDir"`
	ConfigMap *struct{ Name string } `yaml:"configMap"`
	Secret    *struct {
		SecretName string `yaml:"secretName"`
	}
}

type container struct {
	Name, Image     string
	Args            []string
	SecurityContext map[string]any `yaml:"securityContext"`
	Env             []struct {
		Name, Value string
		ValueFrom   struct {
			FieldRef struct {
				FieldPath string `yaml:"fieldPath"`
			} `yaml:"fieldRef"`
			SecretKeyRef struct{ Name, Key string } `yaml:"secretKeyRef"`
		} `yaml:"valueFrom"`
	}
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	LivenessProbe  map[string]any `yaml:"livenessProbe"`
	ReadinessProbe map[string]any `yaml:"readinessProbe"`
	Resources      struct{ Limits map[string]string }
	VolumeMounts   []mount `yaml:"volumeMounts"`
}

type mount struct {
	Name      string
	MountPath string `yaml:"mountPath"`
	SubPath   string `yaml:"subPath"`
	ReadOnly  bool   `yaml:"readOnly"`
}

// env returns a variable of a container; "" without one.
func (c container) env(name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

// flag returns the value of a flag of a container; "" without one.
func (c container) flag(name string) string {
	for _, a := range c.Args {
		if value, ok := strings.CutPrefix(a, "--"+name+"="); ok {
			return value
		}
	}
	return ""
}

// A statefulSet is a StatefulSet or a Deployment.
type statefulSet struct {
	Kind                string `yaml:"-"`
	Replicas            *int
	ServiceName         string `yaml:"serviceName"`
	PodManagementPolicy string `yaml:"podManagementPolicy"`
	UpdateStrategy      struct {
		Type          string
		RollingUpdate map[string]any `yaml:"rollingUpdate"`
	} `yaml:"updateStrategy"`
	Strategy struct { // of a Deployment
		Type          string
		RollingUpdate map[string]int `yaml:"rollingUpdate"`
	}
	PersistentVolumeClaimRetentionPolicy map[string]string `yaml:"persistentVolumeClaimRetentionPolicy"`
	Selector                             struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	}
	Template struct {
		Metadata struct{ Labels, Annotations map[string]string }
		Spec     podSpec
	}
	VolumeClaimTemplates []struct {
		Metadata struct{ Name string }
	} `yaml:"volumeClaimTemplates"`
}

// agent returns the StatefulSet or the Deployment, and its only container.
func agent(t *testing.T, from map[string]manifest, name string) (s statefulSet, c container) {
	t.Helper()
	s.Kind = "StatefulSet"
	if _, ok := from[s.Kind+" "+name]; !ok {
		s.Kind = "Deployment"
	}
	get(t, from, s.Kind+" "+name, &s)
	if len(s.Template.Spec.Containers) != 1 {
		t.Fatalf("the pod has %d containers", len(s.Template.Spec.Containers))
	}
	return s, s.Template.Spec.Containers[0]
}
