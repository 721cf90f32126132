package kubetest

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// valid is a text without a mistake.
const valid = `
apiVersion: v1
kind: ConfigMap
metadata: {name: kcagent, labels: {app: kcagent}}
data:
  consumers.yaml: |
    consumers: []
---
# no object
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: kcagent}
spec:
  replicas: 1
  selector: {matchLabels: {app: kcagent}}
  template:
    metadata: {labels: {app: kcagent}}
    spec:
      containers:
        - name: kcagent
          image: kcagent
          ports: [{name: http, containerPort: 8080}]
          livenessProbe: {httpGet: {path: /healthz, port: http}}
          resources: {requests: {memory: 64Mi, cpu: 0.5}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: kcagent}
spec: {podSelector: {}, policyTypes: [Ingress]}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {name: kcagent}
spec:
  selector: {matchLabels: {app: kcagent}}
  endpoints: [{port: http, interval: 15s}]
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: kcagent}
spec:
  groups: [{name: kcagent, rules: [{alert: Down, expr: up == 0, for: 5m}]}]
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: kcagent}
spec:
  scaleTargetRef: {name: kcagent}
  triggers: [{type: prometheus, metadata: {query: up}}]
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: kcagent}
spec:
  project: default
  source: {repoURL: git, path: deploy}
  destination: {name: in-cluster}
`

func TestValidManifestsPass(t *testing.T) {
	objects, mistakes := check(t, valid)
	if len(objects) != 7 || len(mistakes) != 0 {
		t.Errorf("%d objects, mistakes %q; want 7 and none", len(objects), mistakes)
	}
	if o := objects[1]; o.String() != "Deployment kcagent" || o.APIVersion != "apps/v1" {
		t.Errorf("second object: %s of %s", o, o.APIVersion)
	}
	var d struct{ Spec struct{ Replicas int } }
	if objects[1].Decode(t, &d); d.Spec.Replicas != 1 {
		t.Errorf("Decode: %d replicas, want 1", d.Spec.Replicas)
	}
}

// TestMistakesAreFound: each replacement in the valid text is reported.
func TestMistakesAreFound(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"unknown field", "image: kcagent", "image: kcagent\n          imagePolicy: Always", "additional properties 'imagePolicy' not allowed"},
		{"unknown field of the metadata", "labels: {app: kcagent}}\ndata", "label: {app: kcagent}}\ndata", "additional properties 'label' not allowed"},
		{"unknown field at the top", "spec: {podSelector", "specification: {podSelector", "additional properties 'specification' not allowed"},
		{"wrong type", "replicas: 1", `replicas: "1"`, "got string, want null or integer"},
		{"number in a map of strings", "labels: {app: kcagent}}\ndata", "labels: {app: 1}}\ndata", "want null or string"},
		{"missing field", "          image: kcagent", "          command: [run]\n        - image: kcagent", "missing property 'name'"},
		{"missing selector", "selector: {matchLabels: {app: kcagent}}\n  template", "template", "missing property 'selector'"},
		{"unknown kind", "kind: Deployment", "kind: Deploy", "no schema of kind Deploy in apps/v1"},
		{"kind in another group", "apiVersion: apps/v1", "apiVersion: v1", "no schema of kind Deployment in v1"},
		{"group with a wrong domain", "networking.k8s.io/v1", "networking.example.com/v1", "no schema of kind NetworkPolicy"},
		{"part of an object", "kind: ConfigMap", "kind: PodSpec", "no schema of kind PodSpec"},
		{"kind in other letters", "kind: ConfigMap", "kind: configMap", "no schema of kind configMap"},
		{"no name", "metadata: {name: kcagent, labels", "metadata: {labels", "metadata.name are required"},
		{"no kind", "kind: ConfigMap\n", "", "kind and metadata.name are required"},
		{"not an object", "---\n# no object\n", "---\n[a]\n", "cannot unmarshal array"},
		{"duplicate key", "replicas: 1", "replicas: 1\n  replicas: 2", `mapping key "replicas" already defined`},
		{"duplicate object", "# no object", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kcagent}", "declared twice"},
		{"broken YAML", "---\n# no object\n", "---\n{a\n", "yaml: "},
		{"word of YAML 1.1", "app: kcagent}}\ndata", "app: on}}\ndata", "reads on as a boolean"},
		{"unknown field of the ServiceMonitor", "interval: 15s", "interval: 15s, every: 1s", "additional properties 'every' not allowed"},
		{"wrong duration of the ServiceMonitor", "interval: 15s", "interval: 15 s", "does not match pattern"},
		{"missing expression of a rule", "expr: up == 0, ", "", "missing property 'expr'"},
		{"unknown field of the ScaledObject", "scaleTargetRef: {name", "scaleTargetRef: {nam", "additional properties 'nam' not allowed"},
		{"number in the metadata of a trigger", "{query: up}", "{query: 1}", "want string"},
		{"missing triggers", "triggers: [{type: prometheus, metadata: {query: up}}]", "pollingInterval: 5", "missing property 'triggers'"},
		{"unknown field of the Application", "project: default", "project: default\n  projekt: x", "additional properties 'projekt' not allowed"},
		{"missing project of the Application", "  project: default\n", "", "missing property 'project'"},
		{"field newer than the oldest version", "      containers:", "      resources: {}\n      containers:", "at '/spec/template/spec': additional properties 'resources' not allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := replaced(t, valid, c.old, c.new)
			if _, mistakes := check(t, text); !strings.Contains(strings.Join(mistakes, "\n"), c.want) {
				t.Errorf("mistakes %q do not contain %q", mistakes, c.want)
			}
		})
	}
}

// connected is a text whose references are right.
const connected = `
apiVersion: v1
kind: Service
metadata: {name: kcagent}
spec:
  selector: {app: kcagent}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: kcagent}
spec:
  serviceName: kcagent
  selector: {matchLabels: {app: kcagent}}
  template:
    metadata: {labels: {app: kcagent}}
    spec:
      containers:
        - name: kcagent
          ports: [{name: http, containerPort: 8080}]
          livenessProbe: {httpGet: {path: /healthz, port: http}}
          readinessProbe: {httpGet: {path: /healthz, port: 8080}}
          volumeMounts: [{name: data, mountPath: /data}, {name: config, mountPath: /etc/kcagent}]
      volumes: [{name: config, configMap: {name: kcagent}}]
  volumeClaimTemplates:
    - metadata: {name: data}
      spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: kcagent}
spec: {podSelector: {matchLabels: {app: kcagent}}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: kcagent}
spec: {selector: {matchLabels: {app: kcagent}}}
`

// TestBrokenReferencesAreFound: each replacement in the text is reported.
func TestBrokenReferencesAreFound(t *testing.T) {
	if found := broken(t, Validate(t, connected)); len(found) > 0 {
		t.Fatalf("right references are reported: %q", found)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"mount", "{name: data, mountPath", "{name: dat, mountPath", "mounts the volume dat"},
		{"volume", "{name: config, mountPath", "{name: data, mountPath", "no container mounts the volume config"},
		{"probe by name", "path: /healthz, port: http", "path: /healthz, port: web", "probe of port web"},
		{"probe by number", "port: 8080}}", "port: 8081}}", "probe of port 8081"},
		{"selector of the Service", "selector: {app: kcagent}", "selector: {app: other}", "Service kcagent: the selector selects the pods of 0"},
		{"port of the Service", "targetPort: http", "targetPort: 9090", "StatefulSet kcagent has no port 9090"},
		{"labels of the pods", "labels: {app: kcagent}}\n    spec", "labels: {app: other}}\n    spec", "StatefulSet kcagent: the selector selects the pods of 0"},
		{"selector of the NetworkPolicy", "podSelector: {matchLabels: {app: kcagent}}", "podSelector: {matchLabels: {app: other}}", "NetworkPolicy kcagent: the selector"},
		{"selector of the budget", "{selector: {matchLabels: {app: kcagent}}}", "{selector: {matchLabels: {app: other}}}", "PodDisruptionBudget kcagent: the selector"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := replaced(t, connected, c.old, c.new)
			if found := broken(t, Validate(t, text)); !strings.Contains(strings.Join(found, "\n"), c.want) {
				t.Errorf("found %q, want %q", found, c.want)
			}
		})
	}
}

// replaced returns the text with one replacement, which must change it.
func replaced(t *testing.T, text, old, replacement string) string {
	t.Helper()
	changed := strings.Replace(text, old, replacement, 1)
	if changed == text {
		t.Fatalf("the text does not contain %q", old)
	}
	return changed
}
