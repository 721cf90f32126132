package helm

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestInvalidValuesAreRejected by the schema or templates/checks.yaml, before anything is
// installed. The error names the key.
func TestInvalidValuesAreRejected(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() // that of a subtest may have a comma, which Helm takes for two files
	for i, c := range []struct{ values, want string }{
		{"replica: 2", "'replica' not allowed"},
		{"replicas: 0", "/replicas"},
		{"replicas: two", "/replicas"},
		{"image: {repository: ''}", "/image/repository"},
		{"image: {repository: 'foo/kcagent:1.0'}", "/image/repository"},
		{"image: {repository: 'kcagent:1.0'}", "/image/repository"},
		{"image: {repository: 'localhost:5000/foo/kcagent:1.0'}", "/image/repository"},
		{"image: {repository: 'kcagent@sha256:0123'}", "/image/repository"},
		{"image: {tag: '1.0@sha256:0123'}", "/image/tag"},
		{"image: {digest: latest}", "/image/digest"},
		{"image: {pullPolicy: Sometimes}", "/image/pullPolicy"},
		{"config: {consumer: []}", "'consumer' not allowed"},
		{"config: {consumers: [{name: a, topic: [t]}]}", "'topic' not allowed"},
		{"config: {consumers: [{name: a, state: pause}]}", "/config/consumers/0/state"},
		{"config: {defaults: {sink: {file: {mode: 0640}}}}", "/config/defaults/sink/file/mode"},
		{"config: text", "/config"},
		{"configText: {consumers: []}", "/configText"},
		{"{config: {consumers: [{name: a}]}, configText: 'consumers: []'}", "config and configText cannot be combined: remove"},
		{"{config: {consumers: [{name: a}]}, existingConfigMap: other}", "config and existingConfigMap cannot be combined: remove"},
		{"{config: {clusters: {main: {brokers: [b]}}}, existingConfigMap: other}", "config and existingConfigMap cannot be combined: remove"},
		{"{config: {defaults: {brokers: [b]}}, configText: 'consumers: []'}", "config and configText cannot be combined: remove"},
		{"{configText: 'consumers: []', existingConfigMap: other}", "configText and existingConfigMap cannot be combined: remove"},
		{"secrets: [{name: kafka}]", "/secrets/0"},
		{"secrets: [Kafka]", "/secrets/0"},
		{"secrets: [kafka, kafka]", "/secrets"},
		{"secrets: [a.b, c, a-b]", "invalid secrets: the volumes of a.b and a-b would have the same name; rename"},
		{"persistence: {size: 10 GB}", "/persistence/size"},
		{"persistence: {accessModes: [ReadOnlyMany]}", "/persistence/accessModes/0"},
		{"persistence: {enabled: 'no'}", "/persistence/enabled"},
		{"{persistence: {enabled: false}, config: {consumers: [{name: a, sink: {file: {path: /data/x}}}]}}", "consumer a writes files, which requires persistence.enabled"},
		{"{persistence: {enabled: false}, config: {defaults: {sink: {file: {path: /data/x}}}, consumers: [{name: a}]}}", "consumer a writes files"},
		{"{persistence: {enabled: false}, configText: 'consumers: [{name: b, sink: {file: {path: /data/x}}}]'}", "consumer b writes files"},
		{"{persistence: {enabled: false}, config: {consumers: [{name: a, on_error: {dead_letter: {file: {path: /data/x}}}, sink: {objects: {url: 's3://b'}}}]}}", "consumer a writes files"},
		{"{persistence: {enabled: false}, config: {defaults: {sink: {objects: {url: 'file:///data'}}}, consumers: [{name: a, sink: {objects: {format: raw}}}]}}", "consumer a writes files"},
		{"{persistence: {enabled: false}, config: {defaults: {instance_id: 'x-${POD_NAME}'}, consumers: [{name: a, sink: {objects: {url: 's3://b'}}}]}}", "instance_id x-${POD_NAME} of consumer a requires persistence.enabled"},
		{"{persistence: {enabled: false}, config: {consumers: [{name: a, instance_id: '${HOSTNAME}', sink: {objects: {url: 's3://b'}}}]}}", "instance_id ${HOSTNAME} of consumer a requires persistence.enabled"},
		{"{persistence: {enabled: false}, configText: 'consumers: [{name: a, instance_id: \"{name}-${POD_NAME}\", sink: {objects: {url: \"s3://b\"}}}]'}", "of consumer a requires persistence.enabled"},
		{"resources: {limits: {memory: 512MB}}", "/resources/limits/memory"},
		{"resources: {limits: {memory: 512m}}", "/resources/limits/memory"},
		{"resources: {limits: {memory: '512'}}", "invalid resources.limits.memory 512: set at least 32Mi"},
		{"resources: {limits: {memory: 512}}", "invalid resources.limits.memory 512: set at least 32Mi"},
		{"resources: {limits: {memory: 31Mi}, requests: {memory: 1Mi}}", "invalid resources.limits.memory 31Mi: set at least 32Mi"},
		{"resources: {limits: {memory: 128Mi}}", "resources.requests.memory 256Mi is more than resources.limits.memory 128Mi: lower resources.requests.memory"},
		{"resources: {requests: {memory: 1Gi}}", "resources.requests.memory 1Gi is more than resources.limits.memory 512Mi: lower resources.requests.memory"},
		{"resources: {requests: {memory: 512m}}", "/resources/requests/memory"},
		{"resources: {limit: {memory: 512Mi}}", "'limit' not allowed"},
		{"shutdownTimeoutSeconds: 25s", "/shutdownTimeoutSeconds"},
		{"http: {port: 80}", "/http/port"},
		{"http: {tls: true}", "/http/webConfigSecret"},
		{"http: {basicAuthSecret: login}", "/http/webConfigSecret"},
		{"networkPolicy: {brokerPorts: []}", "/networkPolicy/brokerPorts"},
		{"networkPolicy: {ingressFrom: {}}", "/networkPolicy/ingressFrom"},
		{"serviceMonitor: {interval: 30}", "/serviceMonitor/interval"},
		{"dashboard: {enabled: 'yes'}", "/dashboard/enabled"},
		{"keda: {enabled: true, prometheusAddress: 'http://p'}", "requires keda.maxReplicaCount: set it to"},
		{"keda: {enabled: true, maxReplicaCount: 0, prometheusAddress: 'http://p'}", "/keda/maxReplicaCount"},
		{"keda: {enabled: true, maxReplicaCount: 3}", "requires the source of the lag: set keda.prometheusAddress"},
		{"{replicas: 4, keda: {enabled: true, maxReplicaCount: 3, prometheusAddress: 'http://p'}}", "replicas is more than keda.maxReplicaCount: lower replicas"},
		{"extraArgs: ['--listen=:9090']", "invalid extraArgs: the chart sets --listen; set http.port instead"},
		{"extraArgs: [--log-format=json, --listen, ':9090']", "the chart sets --listen; set http.port instead"},
		{"extraArgs: [--config=/data/consumers.yaml]", "the chart sets --config; set config, configText or existingConfigMap instead"},
		{"extraArgs: [--web.config.file=/data/web.yaml]", "the chart sets --web.config.file; set http.webConfigSecret instead"},
		{"extraArgs: [--shutdown-timeout=1m]", "the chart sets --shutdown-timeout; set shutdownTimeoutSeconds instead"},
		{"podLabels: {app.kubernetes.io/name: reader}", "invalid podLabels: the chart sets app.kubernetes.io/name"},
		{"podLabels: {app.kubernetes.io/instance: orders}", "invalid podLabels: the chart sets app.kubernetes.io/instance"},
		{"fullnameOverride: -x", "/fullnameOverride"},
	} {
		t.Run(c.values, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(dir, fmt.Sprint(i)+".yaml")
			if err := os.WriteFile(file, []byte(c.values+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := template(t, "--values="+file)
			if err == nil {
				t.Fatalf("rendered as %.300s", out)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error does not contain %q: %.600s", c.want, err)
			}
		})
	}
}

// TestFilesNeedNoClaimOnOtherVolumes: without persistence, consumers may write files to a volume
// that the values mount, and a default file sink that no consumer uses is not rejected.
func TestFilesNeedNoClaimOnOtherVolumes(t *testing.T) {
	t.Parallel()
	for i, values := range []string{
		"{persistence: {enabled: false}, extraVolumes: [{name: nfs}], extraVolumeMounts: [{name: nfs, mountPath: /nfs}], config: {consumers: [{name: a, sink: {file: {path: /nfs/x}}}]}}",
		"{persistence: {enabled: false}, config: {defaults: {sink: {file: {path: /data/x}}}, consumers: [{name: a, on_error: skip, sink: {objects: {url: 's3://b'}}}]}}",
		"{persistence: {enabled: false}, configText: 'consumers: [{name: a, sink: {objects: {url: \"s3://b\"}}}]'}",
		"{persistence: {enabled: false}, existingConfigMap: other}",
	} {
		file := filepath.Join(t.TempDir(), fmt.Sprint(i)+".yaml")
		if err := os.WriteFile(file, []byte(values+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := template(t, "--values="+file); err != nil {
			t.Error(err)
		}
	}
}

// TestInvalidNamesOfReleasesAreRejected: a Service cannot have each name that a release can.
// With fullnameOverride, each release can be installed.
func TestInvalidNamesOfReleasesAreRejected(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"my.rel", "1rel", "kcagent.orders"} {
		args := []string{"template", name, chart, "--namespace=data"}
		if out, err := helm(t, args...); err == nil || !strings.Contains(err.Error(), "set fullnameOverride to a name that") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: the error is %v, the text %.300s", name, err, out)
		}
		if _, err := helm(t, append(args, "--set=fullnameOverride=orders")...); err != nil {
			t.Error(err)
		}
	}
}

// A schema is the part of the schema of values that describes a key.
type schema struct {
	Description string
	Ref         string `json:"$ref"`
	Properties  map[string]schema
}

// TestReadmeListsAllValues: each value has a description in the schema, a default, and a row
// in the table of README.md.
func TestReadmeListsAllValues(t *testing.T) {
	t.Parallel()
	var s schema
	if err := json.Unmarshal([]byte(read(t, schemaFile)), &s); err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(chart, "values.yaml"))), &values); err != nil {
		t.Fatal(err)
	}
	delete(s.Properties, "global")
	var table strings.Builder
	table.WriteString("| value | default | meaning |\n|---|---|---|\n")
	writeRows(t, &table, "", s, values)

	file := filepath.Join(chart, "README.md")
	const heading = "## Values\n\n"
	text, _, ok := strings.Cut(read(t, file), heading)
	if !ok {
		t.Fatalf("%s has no heading of the values", file)
	}
	wantFile(t, file, text+heading+table.String())
}

// writeRows writes a row for each key below path.
func writeRows(t *testing.T, w *strings.Builder, path string, s schema, values map[string]any) {
	t.Helper()
	for key := range values {
		if _, ok := s.Properties[key]; !ok {
			t.Errorf("the schema has no %s%s", path, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Properties)) {
		child := s.Properties[key]
		value, ok := values[key]
		if !ok {
			t.Errorf("values.yaml has no %s%s", path, key)
		}
		if child.Description == "" {
			t.Errorf("the schema does not describe %s%s", path, key)
		}
		if inner, is := value.(map[string]any); is && len(child.Properties) > 0 {
			writeRows(t, w, path+key+".", child, inner)
			continue
		}
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(w, "| `%s%s` | `%s` | %s |\n", path, key, text, child.Description)
	}
}
