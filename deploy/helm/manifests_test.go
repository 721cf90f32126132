package helm

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"kcagent/cli"
	"kcagent/config"
	"kcagent/e2e/loud"
)

// fullname returns the name of the objects of a set of values.
func fullname(set string) string {
	if strings.Contains(set, "everything") {
		return "reader"
	}
	return "test-kcagent"
}

// TestEachReplicaHasItsVolumeAndName: the data is in a claim that remains, and pods restart in
// order, with their name in instance_id.
func TestEachReplicaHasItsVolumeAndName(t *testing.T) {
	t.Parallel()
	for _, set := range valueSets(t) {
		s, c := agent(t, render(t, "--values="+set), fullname(set))
		if s.Kind == "Deployment" {
			continue
		}
		if s.UpdateStrategy.Type != "RollingUpdate" || len(s.UpdateStrategy.RollingUpdate) > 0 {
			t.Errorf("%s: the strategy is %v, so pods may not restart one by one", set, s.UpdateStrategy)
		}
		if len(s.VolumeClaimTemplates) != 1 || s.VolumeClaimTemplates[0].Metadata.Name != "data" {
			t.Errorf("%s: the claims are %v", set, s.VolumeClaimTemplates)
		}
		if p := s.PersistentVolumeClaimRetentionPolicy; p["whenDeleted"] != "Retain" || p["whenScaled"] != "Retain" {
			t.Errorf("%s: claims are deleted: %v", set, p)
		}
		if !slices.Contains(c.VolumeMounts, mount{Name: "data", MountPath: "/data"}) {
			t.Errorf("%s: /data is not mounted", set)
		}
		if e := c.Env[0]; e.Name != "POD_NAME" || e.ValueFrom.FieldRef.FieldPath != "metadata.name" {
			t.Errorf("%s: the first variable is %v", set, e)
		}
	}
}

// TestDeploymentHasNoVolumes: without persistence, no claim exists, the spool ends with the pod,
// pods are replaced one by one, and all else is as for the StatefulSet.
func TestDeploymentHasNoVolumes(t *testing.T) {
	t.Parallel()
	all := render(t, "--values=testdata/objects.yaml")
	s, _ := agent(t, all, "test-kcagent")
	if s.Kind != "Deployment" || len(s.VolumeClaimTemplates) > 0 || s.Replicas != nil { // KEDA sets the number
		t.Fatalf("the agents are a %s with %d replicas and the claims %v", s.Kind, s.Replicas, s.VolumeClaimTemplates)
	}
	if u := s.Strategy; u.Type != "RollingUpdate" || fmt.Sprint(u.RollingUpdate) != "map[maxSurge:0 maxUnavailable:1]" {
		t.Errorf("the strategy is %v", u)
	}
	if v := s.Template.Spec.Volumes[0]; v.Name != "data" || v.EmptyDir["sizeLimit"] != "20Gi" {
		t.Errorf("/data is %v", v)
	}
	stateful := render(t, "--values=testdata/objects.yaml", "--set=persistence.enabled=true")
	set, _ := agent(t, stateful, "test-kcagent")
	without := s.Template.Spec.Volumes[1:]
	s.Template.Spec.Volumes = without
	if set.Kind != "StatefulSet" || !reflect.DeepEqual(set.Template, s.Template) {
		t.Errorf("the pods of the Deployment are\n%+v\nthose of the StatefulSet\n%+v", s.Template, set.Template)
	}
	delete(all, "Deployment test-kcagent")
	delete(stateful, "StatefulSet test-kcagent")
	if !slices.Equal(slices.Sorted(maps.Keys(all)), slices.Sorted(maps.Keys(stateful))) {
		t.Error("the StatefulSet has other objects beside it than the Deployment")
	}
}

// TestRenderedFileIsValid: the agent accepts the file of each set of values, and each consumer
// has an instance_id of its own in each pod.
func TestRenderedFileIsValid(t *testing.T) {
	t.Parallel()
	for _, set := range valueSets(t) {
		if strings.Contains(set, "existing") {
			continue
		}
		all := render(t, "--values="+set)
		text := get(t, all, "ConfigMap "+fullname(set), nil).Data["consumers.yaml"]
		env := map[string]string{"POD_NAME": "test-kcagent-1", "ZONE": "eu-1a"}
		c, problems := config.Parse("consumers.yaml", []byte(text), func(name string) (string, bool) { v, ok := env[name]; return v, ok })
		if len(problems) > 0 {
			t.Errorf("%s: %v\n%s", set, problems, text)
			continue
		}
		s, _ := agent(t, all, fullname(set))
		for _, consumer := range c.Consumers {
			want := consumer.Name + "-test-kcagent-1"
			if s.Kind == "Deployment" { // whose pods have other names after each restart
				want = ""
			}
			if consumer.InstanceID != want {
				t.Errorf("%s: the instance_id is %q, want %q", set, consumer.InstanceID, want)
			}
		}
	}
}

// TestTextOfTheFileIsKept byte by byte, with comments, odd indentation and line ends: kcagent
// status --wait compares its hash.
func TestTextOfTheFileIsKept(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"# a comment\nconsumers: []\n", "  # indented\nconsumers: []", "\n\nconsumers: [] # {{ .Values }}\n\n",
		"consumers: []\r\n# {name} ${POD_NAME}  \r\n", "# \ttab \nconsumers: []\t\n",
	} {
		file := filepath.Join(t.TempDir(), "consumers.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if has := get(t, render(t, "--set-file=configText="+file), "ConfigMap test-kcagent", nil).Data["consumers.yaml"]; has != text {
			t.Errorf("%q becomes %q", text, has)
		}
	}
}

// TestConfigMapIsMountedAsAFolder, without a checksum in the pod: an edit reaches the agent and
// restarts nothing. Secrets are files, too.
func TestConfigMapIsMountedAsAFolder(t *testing.T) {
	t.Parallel()
	before, c := agent(t, render(t, "--values=testdata/everything.yaml"), "reader")
	after, _ := agent(t, render(t, "--values=testdata/everything.yaml", "--set=config.consumers[0].state=paused"), "reader")
	was, err := yaml.Marshal(before.Template)
	if err != nil {
		t.Fatal(err)
	}
	if is, err := yaml.Marshal(after.Template); err != nil || !bytes.Equal(is, was) {
		t.Errorf("an edit of the file changes the pods: %v", err)
	}
	names := make(map[string]volume)
	for _, v := range before.Template.Spec.Volumes {
		names[v.Name] = v
	}
	mounted := make(map[string]volume)
	for _, m := range c.VolumeMounts {
		if m.SubPath != "" {
			t.Errorf("%s is mounted by subPath", m.MountPath)
		}
		mounted[m.MountPath] = names[m.Name]
	}
	if v := mounted[filepath.Dir(c.flag("config"))]; v.ConfigMap == nil || v.ConfigMap.Name != "reader" {
		t.Errorf("the folder of %s is %v", c.flag("config"), v)
	}
	for _, secret := range []string{"kafka-ca", "kafka.client"} {
		if v := mounted["/etc/kcagent-secrets/"+secret]; v.Secret == nil || v.Secret.SecretName != secret {
			t.Errorf("the folder of %s is %v", secret, v)
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom.SecretKeyRef.Name != "" {
			t.Errorf("%s comes from a Secret", e.Name)
		}
	}
}

// TestGracePeriodExceedsTheShutdownTimeout, so that Kubernetes does not kill an agent that
// flushes.
func TestGracePeriodExceedsTheShutdownTimeout(t *testing.T) {
	t.Parallel()
	for _, seconds := range []int{1, 25, 600} {
		s, c := agent(t, render(t, fmt.Sprintf("--set=shutdownTimeoutSeconds=%d", seconds)), "test-kcagent")
		timeout, err := time.ParseDuration(c.flag("shutdown-timeout"))
		if err != nil {
			t.Fatal(err)
		}
		grace := time.Duration(s.Template.Spec.TerminationGracePeriodSeconds) * time.Second
		if timeout != time.Duration(seconds)*time.Second || grace < timeout+5*time.Second {
			t.Errorf("the timeout is %v, the grace period %v", timeout, grace)
		}
	}
}

// TestGoMemLimitIsBelowTheLimit: it is 90 % of the limit in each notation, and absent without a
// limit.
func TestGoMemLimitIsBelowTheLimit(t *testing.T) {
	t.Parallel()
	for limit, bytes := range map[string]float64{
		"512Mi": 512 << 20, "1.5Gi": 1.5 * (1 << 30), "2G": 2e9, "300M": 3e8, "100000k": 1e8, "262144Ki": 256 << 20,
		"1000000000": 1e9, "1Ti": 1 << 40, "32Mi": 32 << 20, "0.5T": 5e11, "null": 0,
	} {
		file := filepath.Join(t.TempDir(), "values.yaml")
		if err := os.WriteFile(file, []byte("resources: {requests: {memory: 32Mi}, limits: {memory: "+limit+"}}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, c := agent(t, render(t, "--values="+file), "test-kcagent")
		want := ""
		if bytes > 0 {
			want = strconv.FormatInt(int64(bytes*0.9), 10)
		}
		if has := c.env("GOMEMLIMIT"); has != want {
			t.Errorf("with the limit %s, GOMEMLIMIT is %q, want %q", limit, has, want)
		}
	}
}

// TestPodsHaveNoPrivileges: not the agents, and not the pod of helm test.
func TestPodsHaveNoPrivileges(t *testing.T) {
	t.Parallel()
	for _, set := range valueSets(t) {
		all := render(t, "--values="+set)
		s, _ := agent(t, all, fullname(set))
		var test podSpec
		get(t, all, "Pod "+fullname(set)+"-test", &test)
		for _, p := range []podSpec{s.Template.Spec, test} {
			if c := p.SecurityContext; c["runAsNonRoot"] != true || c["runAsUser"] != 65532 || c["fsGroup"] != 65532 ||
				fmt.Sprint(c["seccompProfile"]) != "map[type:RuntimeDefault]" || p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken {
				t.Errorf("%s: the pod has %v", set, c)
			}
			for _, one := range p.Containers {
				if c := one.SecurityContext; c["readOnlyRootFilesystem"] != true || c["allowPrivilegeEscalation"] != false || fmt.Sprint(c["capabilities"]) != "map[drop:[ALL]]" {
					t.Errorf("%s: container %s has %v", set, one.Name, c)
				}
			}
		}
	}
}

// TestSelectorsFindTheirTargets: Services, PodDisruptionBudget, NetworkPolicy and ServiceMonitor
// select what they mean, and helm test none of the agents.
func TestSelectorsFindTheirTargets(t *testing.T) {
	t.Parallel()
	all := render(t, "--values=testdata/everything.yaml")
	s, _ := agent(t, all, "reader")
	pod := s.Template.Metadata.Labels
	selects := func(key string, selector, labels map[string]string) bool {
		for name, value := range selector {
			if labels[name] != value {
				t.Logf("%s selects %s=%s", key, name, value)
				return false
			}
		}
		return len(selector) > 0
	}
	type matcher struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	}
	var spec struct {
		Selector    yaml.Node
		PodSelector matcher `yaml:"podSelector"`
	}
	for _, key := range []string{"Service reader", "Service reader-headless"} {
		var selector map[string]string
		get(t, all, key, &spec)
		if err := spec.Selector.Decode(&selector); err != nil || !selects(key, selector, pod) {
			t.Errorf("%s does not select the pods", key)
		}
		if test := all["Pod reader-test"].Metadata.Labels; selects(key, selector, test) {
			t.Errorf("%s selects the pod of helm test", key)
		}
	}
	if s.ServiceName != "reader-headless" || !selects("StatefulSet", s.Selector.MatchLabels, pod) {
		t.Errorf("the StatefulSet has the service %s", s.ServiceName)
	}
	var m matcher
	get(t, all, "PodDisruptionBudget reader", &spec)
	if err := spec.Selector.Decode(&m); err != nil || !selects("PodDisruptionBudget", m.MatchLabels, pod) {
		t.Error("the PodDisruptionBudget does not select the pods")
	}
	get(t, all, "NetworkPolicy reader", &spec)
	if !selects("NetworkPolicy", spec.PodSelector.MatchLabels, pod) {
		t.Error("the NetworkPolicy does not select the pods")
	}
	get(t, all, "ServiceMonitor reader", &spec)
	m = matcher{}
	if err := spec.Selector.Decode(&m); err != nil || !selects("ServiceMonitor", m.MatchLabels, all["Service reader-headless"].Metadata.Labels) ||
		selects("ServiceMonitor", m.MatchLabels, all["Service reader"].Metadata.Labels) {
		t.Error("the ServiceMonitor does not select exactly one Service")
	}
}

// TestMonitoringIsThatOfDeploy: the rules and the dashboard are rendered unchanged, although
// they contain {{ }}.
func TestMonitoringIsThatOfDeploy(t *testing.T) {
	t.Parallel()
	all := render(t, "--values=testdata/everything.yaml")
	if has := get(t, all, "ConfigMap reader-dashboard", nil).Data["kcagent.json"]; has != read(t, "../grafana/kcagent.json") {
		t.Error("the dashboard differs")
	}
	var has, want any
	get(t, all, "PrometheusRule reader", &has)
	if err := yaml.Unmarshal([]byte(read(t, "../prometheus/kcagent.rules.yaml")), &want); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(has) != fmt.Sprint(want) {
		t.Error("the rules differ")
	}
}

// TestScalingIsBounded: KEDA scales the StatefulSet by lag, between replicas and the number of
// partitions, and nothing else sets the number of replicas.
func TestScalingIsBounded(t *testing.T) {
	t.Parallel()
	all := render(t, "--values=testdata/scaled.yaml")
	s, _ := agent(t, all, "test-kcagent")
	var spec struct {
		ScaleTargetRef  map[string]string `yaml:"scaleTargetRef"`
		MinReplicaCount int               `yaml:"minReplicaCount"`
		MaxReplicaCount int               `yaml:"maxReplicaCount"`
		Triggers        []struct {
			Type     string
			Metadata map[string]string
		}
	}
	get(t, all, "ScaledObject test-kcagent", &spec)
	target := spec.ScaleTargetRef
	if s.Replicas != nil || spec.MinReplicaCount != 2 || spec.MaxReplicaCount != 12 || target["kind"] != "StatefulSet" || target["name"] != "test-kcagent" {
		t.Errorf("replicas %v, between %d and %d, of %v", s.Replicas, spec.MinReplicaCount, spec.MaxReplicaCount, target)
	}
	if len(spec.Triggers) != 1 || !strings.Contains(read(t, "../../docs/metrics.md"), "`kcagent_consumer_lag_records`") ||
		!strings.Contains(spec.Triggers[0].Metadata["query"], `kcagent_consumer_lag_records{namespace="data",instance=~"test-kcagent-[0-9]+"}`) {
		t.Fatalf("the triggers are %v", spec.Triggers)
	}
	var deployment struct {
		ScaleTargetRef map[string]string `yaml:"scaleTargetRef"`
		Triggers       []struct{ Metadata map[string]string }
	}
	get(t, render(t, "--values=testdata/objects.yaml"), "ScaledObject test-kcagent", &deployment)
	if kind := deployment.ScaleTargetRef["kind"]; kind != "Deployment" {
		t.Errorf("without persistence, KEDA scales a %s", kind)
	}
	_, pattern, _ := strings.Cut(deployment.Triggers[0].Metadata["query"], `instance=~"`)
	pattern, _, _ = strings.Cut(pattern, `"`)
	pods := regexp.MustCompile("^(" + pattern + ")$")
	if !pods.MatchString("test-kcagent-7d9c5b8f6-x2k4z") || pods.MatchString("test-kcagent-0") || pods.MatchString("test-kcagent-b-7d9c5b8f6-x2k4z") {
		t.Errorf("%s does not match the pods of the Deployment alone", pods)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		loud.Skip(t, "KCAGENT_REQUIRE_PROMETHEUS", "promtool is not installed (Debian: apt-get install prometheus)")
	}
	rules, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{
		"name": "keda", "rules": []any{map[string]any{"record": "lag", "expr": spec.Triggers[0].Metadata["query"]}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, rules, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("the query is invalid: %v\n%s", err, out)
	}
}

// TestCommandsOfTheManifestsExist: each command and flag of a container is one of the program.
func TestCommandsOfTheManifestsExist(t *testing.T) {
	t.Parallel()
	for _, set := range valueSets(t) {
		all := render(t, "--values="+set)
		_, c := agent(t, all, fullname(set))
		var test podSpec
		get(t, all, "Pod "+fullname(set)+"-test", &test)
		if len(test.Containers) < 2 {
			t.Errorf("%s: helm test has %d containers", set, len(test.Containers))
		}
		for _, c := range append(test.Containers, c) {
			var help bytes.Buffer
			if code := cli.Run([]string{c.Args[0], "--help"}, &help, io.Discard); code != 0 {
				t.Fatalf("%s: %v", set, c.Args)
			}
			for _, a := range c.Args[1:] {
				if name, _, _ := strings.Cut(a, "="); !strings.Contains(help.String(), "\n  "+name+" ") {
					t.Errorf("%s: kcagent %s has no %s", set, c.Args[0], name)
				}
			}
		}
	}
}

// TestPackage: helm package makes an archive of the version of a release, whose image has the
// same version.
func TestPackage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := helm(t, "package", chart, "--version=1.2.3", "--app-version=1.2.3", "--destination="+dir); err != nil {
		t.Fatal(err)
	}
	out, err := helm(t, "template", "test", filepath.Join(dir, "kcagent-1.2.3.tgz"), "--namespace=data")
	if err != nil {
		t.Fatal(err)
	}
	packaged, source := parse(t, out), render(t)
	if _, c := agent(t, packaged, "test-kcagent"); c.Image != "kcagent:1.2.3" {
		t.Errorf("the image is %s", c.Image)
	}
	if !slices.Equal(slices.Sorted(maps.Keys(packaged)), slices.Sorted(maps.Keys(source))) {
		t.Error("the archive renders other objects than the folder")
	}
}

// TestProbesFollowTheHTTPAPI: with TLS they use it, and with a password, which the kubelet does
// not have, they open a connection.
func TestProbesFollowTheHTTPAPI(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--set=http.port=9090":                                   "map[httpGet:map[path:PATH port:http scheme:HTTP]]",
		"--set=http.webConfigSecret=web,http.tls=true":           "map[httpGet:map[path:PATH port:http scheme:HTTPS]]",
		"--set=http.webConfigSecret=web,http.basicAuthSecret=pw": "map[tcpSocket:map[port:http]]",
	} {
		_, c := agent(t, render(t, args), "test-kcagent")
		for path, probe := range map[string]map[string]any{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
			maps.DeleteFunc(probe, func(key string, _ any) bool { return strings.HasSuffix(key, "Seconds") || key == "failureThreshold" })
			if has := strings.Replace(fmt.Sprint(probe), path, "PATH", 1); has != want {
				t.Errorf("%s: the probe of %s is %s", args, path, has)
			}
		}
		if port := strconv.Itoa(c.Ports[0].ContainerPort); c.Ports[0].Name != "http" || c.flag("listen") != ":"+port {
			t.Errorf("%s: the agent listens at %s, the port is %v", args, c.flag("listen"), c.Ports[0])
		}
	}
}

// TestNetworkPolicyAdmitsWhatIsNeeded: HTTP from the peers and helm test, and connections to
// DNS and brokers only; without peers from everybody and to the brokers' ports everywhere.
func TestNetworkPolicyAdmitsWhatIsNeeded(t *testing.T) {
	t.Parallel()
	type rule struct {
		Ports    []struct{ Port, Protocol string }
		From, To []yaml.Node
	}
	var limited, open struct {
		PolicyTypes     []string `yaml:"policyTypes"`
		Ingress, Egress []rule
	}
	get(t, render(t, "--values=testdata/everything.yaml"), "NetworkPolicy reader", &limited)
	get(t, render(t, "--values=testdata/secured.yaml"), "NetworkPolicy test-kcagent", &open)
	for _, p := range [][]string{limited.PolicyTypes, open.PolicyTypes} {
		if !slices.Equal(p, []string{"Ingress", "Egress"}) {
			t.Errorf("the policy concerns %v", p)
		}
	}
	summary := func(rules []rule) (s []string) {
		for _, r := range rules {
			s = append(s, fmt.Sprintf("%v %d", r.Ports, len(r.From)+len(r.To)))
		}
		return s
	}
	for what, c := range map[string]struct {
		rules []rule
		want  string
	}{
		"limited ingress": {limited.Ingress, "[[{http TCP}] 2]"},
		"limited egress":  {limited.Egress, "[[{53 UDP} {53 TCP}] 0 [{9093 TCP}] 1 [{443 TCP}] 0]"},
		"open ingress":    {open.Ingress, "[[{http TCP}] 0]"},
		"open egress":     {open.Egress, "[[{53 UDP} {53 TCP}] 0 [{9092 TCP} {9093 TCP}] 0]"},
	} {
		if has := fmt.Sprint(summary(c.rules)); has != c.want {
			t.Errorf("%s is %s, want %s", what, has, c.want)
		}
	}
}
