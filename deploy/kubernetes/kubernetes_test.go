// Package kubernetes has manifests: a sidecar, and a Kustomize base with overlays. Its tests
// build and validate them, and run the containers of kcagent as the manifests say.
package kubernetes

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kcagent/config"
	"kcagent/deploy/kubernetes/kubetest"
	"kcagent/e2e/agenttest"
	"kcagent/e2e/tools"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		agenttest.RemoveBinary()
		os.Exit(code)
	}))
}

// kustomizations are the folders that users build.
var kustomizations = []string{"base", "overlays/production", "overlays/git-sync", "argocd"}

// kustomize builds a folder.
func kustomize(t *testing.T, dir string) string {
	t.Helper()
	bin := tools.Go(t, "sigs.k8s.io/kustomize/kustomize/v5@v5.8.1")
	var stderr bytes.Buffer
	cmd := exec.Command(bin, "build", dir)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 { // warnings of deprecated fields, too
		t.Fatalf("kustomize build %s: %v\n%s", dir, err, &stderr)
	}
	return string(out)
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// manifests returns each text that a user applies, by name: the files, the kustomizations,
// and the manifests in the documentation.
func manifests(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{
		"sidecar.yaml":            read(t, "sidecar.yaml"),
		"argocd/application.yaml": read(t, "argocd/application.yaml"),
	}
	for _, dir := range kustomizations {
		all[dir] = kustomize(t, dir)
	}
	for i, text := range blocks(t, "yaml") {
		all["docs/kubernetes.md "+strconv.Itoa(i+1)] = text
	}
	return all
}

// find returns the object with a kind, of which there must be one.
func find(t *testing.T, objects []kubetest.Object, kind string) kubetest.Object {
	t.Helper()
	var found []kubetest.Object
	for _, o := range objects {
		if o.Kind == kind {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects of kind %s, want 1", len(found), kind)
	}
	return found[0]
}

// TestManifestsAreValid: each object is valid in the oldest and the newest version of
// Kubernetes, and names and selectors lead somewhere.
func TestManifestsAreValid(t *testing.T) {
	for name, text := range manifests(t) {
		t.Run(name, func(t *testing.T) { kubetest.References(t, kubetest.Validate(t, text)) })
	}
}

// TestEachFileOfAKustomizationIsUsed: no file lies beside a kustomization without effect.
func TestEachFileOfAKustomizationIsUsed(t *testing.T) {
	for _, dir := range kustomizations {
		text := read(t, filepath.Join(dir, "kustomization.yaml"))
		files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		if err != nil || len(files) < 2 {
			t.Fatalf("%s has %v, %v", dir, files, err)
		}
		for _, file := range files {
			name := filepath.Base(file)
			if name != "kustomization.yaml" && name != "application.yaml" && !strings.Contains(text, name) {
				t.Errorf("the kustomization of %s does not use %s", dir, name)
			}
		}
	}
}

// TestPodsAreRestricted: each pod is allowed in a namespace that enforces the Pod Security
// Standard restricted, and each container has a read-only root file system.
func TestPodsAreRestricted(t *testing.T) {
	for name, text := range manifests(t) {
		for _, o := range kubetest.Validate(t, text) {
			pod, ok := kubetest.PodOf(t, o)
			if !ok || strings.HasPrefix(name, "docs/") { // which shorten it
				continue
			}
			if s := pod.Spec.SecurityContext; !s.RunAsNonRoot || s.SeccompProfile.Type != "RuntimeDefault" {
				t.Errorf("%s: %s has the security context %+v", name, o, s)
			}
			for _, c := range pod.All() {
				s := c.SecurityContext
				if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !s.ReadOnlyRootFilesystem ||
					len(s.Capabilities.Add) > 0 || strings.Join(s.Capabilities.Drop, " ") != "ALL" {
					t.Errorf("%s: container %s of %s has the security context %+v", name, c.Name, o, s)
				}
				if s.RunAsUser == 0 && pod.Spec.SecurityContext.RunAsUser == 0 {
					t.Errorf("%s: container %s of %s runs as the user of its image, which may be root", name, c.Name, o)
				}
			}
			for _, v := range pod.Spec.Volumes {
				if v.EmptyDir != nil && v.EmptyDir.SizeLimit == "" {
					t.Errorf("%s: the volume %s of %s has no size limit", name, v.Name, o)
				}
			}
		}
	}
}

// TestConfigurationFoldersAreMounted: each agent mounts the folder of its configuration file,
// read-only. A subPath mount would not receive edits.
func TestConfigurationFoldersAreMounted(t *testing.T) {
	agents := 0
	for name, text := range manifests(t) {
		for _, o := range kubetest.Validate(t, text) {
			pod, _ := kubetest.PodOf(t, o)
			for _, c := range pod.All() {
				file, ok := flagOf(c, "config")
				if !ok {
					continue
				}
				agents++
				mounted := false
				for _, m := range c.VolumeMounts {
					if m.SubPath != "" {
						t.Errorf("%s: %s of %s has a subPath mount", name, c.Name, o)
					}
					mounted = mounted || strings.HasPrefix(file, m.MountPath+"/") && m.ReadOnly
				}
				if !mounted {
					t.Errorf("%s: %s of %s mounts no folder of %s", name, c.Name, o, file)
				}
			}
		}
	}
	if agents != 6 {
		t.Errorf("found %d agents, want 6", agents)
	}
}

// flagOf returns the value of a flag in the arguments of kcagent run.
func flagOf(c kubetest.Container, name string) (value string, ok bool) {
	if len(c.Args) == 0 || c.Args[0] != "run" {
		return "", false
	}
	for _, arg := range c.Args[1:] {
		if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// TestGracePeriodsExceedTheShutdownTimeout: an agent is not killed while its consumers flush
// and commit. A sidecar gets SIGTERM after the application has ended, for which the manifest
// assumes 30 s.
func TestGracePeriodsExceedTheShutdownTimeout(t *testing.T) {
	for name, text := range manifests(t) {
		for _, o := range kubetest.Validate(t, text) {
			pod, _ := kubetest.PodOf(t, o)
			for _, c := range pod.All() {
				text, ok := flagOf(c, "shutdown-timeout")
				if !ok {
					continue
				}
				timeout, err := time.ParseDuration(text)
				if err != nil {
					t.Fatal(err)
				}
				least := timeout + 7*time.Second // as docs/operations.md says
				if c.RestartPolicy == "Always" {
					least += 30 * time.Second
				}
				if grace := time.Duration(pod.Spec.TerminationGracePeriodSeconds) * time.Second; grace < least {
					t.Errorf("%s: the grace period of %s is %v, want at least %v", name, o, grace, least)
				}
			}
		}
	}
}

// TestConfigMapsAreAccepted: the agent accepts the consumers.yaml of each ConfigMap.
func TestConfigMapsAreAccepted(t *testing.T) {
	files := 0
	for name, text := range manifests(t) {
		for _, o := range kubetest.Validate(t, text) {
			if o.Kind != "ConfigMap" {
				continue
			}
			files++
			file := filepath.Join(t.TempDir(), "consumers.yaml")
			if err := os.WriteFile(file, []byte(dataOf(t, o)), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(agenttest.ReleasedBinary(t), "validate", "--config", file)
			cmd.Env = append(os.Environ(), "POD_NAME=kcagent-0")
			if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "warning") {
				t.Errorf("%s: kcagent validate: %v\n%s", name, err, out)
			}
		}
	}
	if files != 4 {
		t.Errorf("found %d ConfigMaps, want 4", files)
	}
}

// dataOf returns the configuration file in a ConfigMap.
func dataOf(t *testing.T, configMap kubetest.Object) string {
	t.Helper()
	var c struct{ Data map[string]string }
	configMap.Decode(t, &c)
	if len(c.Data) != 1 || c.Data["consumers.yaml"] == "" {
		t.Fatalf("%s has the keys of %v, want consumers.yaml", configMap, c.Data)
	}
	return c.Data["consumers.yaml"]
}

// TestMembersAreStatic: in each StatefulSet, the consumers of a pod are static members under
// the pod's name, so that a restart causes no rebalance.
func TestMembersAreStatic(t *testing.T) {
	for _, dir := range []string{"base", "overlays/production"} {
		text := dataOf(t, find(t, kubetest.Validate(t, kustomize(t, dir)), "ConfigMap"))
		text = strings.Replace(text, "consumers: []", "consumers: [{name: orders, brokers: ['kafka:9092'], topics: [t], sink: {stdout: {}}}]", 1)
		c, problems := config.Parse("consumers.yaml", []byte(text), func(name string) (string, bool) {
			return "kcagent-7", name == "POD_NAME"
		})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		for _, consumer := range c.Consumers {
			if want := consumer.Name + "-kcagent-7"; consumer.InstanceID != want {
				t.Errorf("%s: %s is the member %q, want %q", dir, consumer.Name, consumer.InstanceID, want)
			}
		}
	}
}

// TestSidecarHasTheExample: the ConfigMap of the sidecar is examples/sidecar.yaml, apart from
// the comment at its top.
func TestSidecarHasTheExample(t *testing.T) {
	example := read(t, "../../examples/sidecar.yaml")
	example = regexp.MustCompile(`(?m)\A(#.*\n|\n)*`).ReplaceAllString(example, "")
	if got := dataOf(t, find(t, kubetest.Validate(t, read(t, "sidecar.yaml")), "ConfigMap")); got != example {
		t.Errorf("the ConfigMap has\n%s\nexamples/sidecar.yaml has\n%s", got, example)
	}
}

// TestEditRestartsNoPod: another consumers.yaml in an overlay changes the ConfigMap and
// nothing else, so that no pod restarts.
func TestEditRestartsNoPod(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlays/production")
	before := kubetest.Validate(t, kustomize(t, overlay))
	file := filepath.Join(overlay, "consumers.yaml")
	edited := strings.Replace(read(t, file), "topics: [orders]", "topics: [orders, returns]", 1)
	if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	after := kubetest.Validate(t, kustomize(t, overlay))
	if len(before) != len(after) {
		t.Fatalf("%d objects became %d", len(before), len(after))
	}
	var changed []string
	for i := range before {
		if !equal(t, before[i], after[i]) {
			changed = append(changed, after[i].String())
		}
	}
	if strings.Join(changed, " ") != "ConfigMap kcagent" {
		t.Errorf("the edit changes %q, want the ConfigMap only", changed)
	}
	if got := dataOf(t, find(t, after, "ConfigMap")); got != edited {
		t.Errorf("the ConfigMap has\n%s", got)
	}
}

// TestProductionIsConfigured: the overlay changes what its description says.
func TestProductionIsConfigured(t *testing.T) {
	objects := kubetest.Validate(t, kustomize(t, "overlays/production"))
	var s struct {
		Spec struct {
			Replicas             int
			VolumeClaimTemplates []struct {
				Spec struct {
					Resources struct{ Requests struct{ Storage string } }
				}
			}
		}
	}
	set := find(t, objects, "StatefulSet")
	set.Decode(t, &s)
	pod, _ := kubetest.PodOf(t, set)
	agent := pod.Spec.Containers[0]
	if s.Spec.Replicas != 3 || s.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage != "100Gi" || agent.Image != "registry.example.com/kcagent:1.0.0" {
		t.Errorf("%d replicas of %s with %+v", s.Spec.Replicas, agent.Image, s.Spec.VolumeClaimTemplates)
	}
	for _, o := range objects {
		if o.Namespace != "kcagent" {
			t.Errorf("%s is in the namespace %q", o, o.Namespace)
		}
	}
	checkRotation(t, dataOf(t, find(t, objects, "ConfigMap")))
	// The files that consumers.yaml names are in a folder that a Secret is mounted at.
	text := dataOf(t, find(t, objects, "ConfigMap"))
	files := regexp.MustCompile(`_file: (\S+?)/[^/\s}]+[}\n]`).FindAllStringSubmatch(text, -1)
	if len(files) != 2 {
		t.Fatalf("consumers.yaml names the files %q, want 2", files)
	}
	for _, file := range files {
		mounted := false
		for _, m := range agent.VolumeMounts {
			mounted = mounted || m.MountPath == file[1] && m.ReadOnly && m.SubPath == ""
		}
		if !mounted {
			t.Errorf("nothing is mounted at %s", file[1])
		}
	}
}

// checkRotation checks the comment on the size of the rotated files in consumers.yaml: they
// leave a volume of 100 GiB at least a twentieth for checkpoints and the file system.
func checkRotation(t *testing.T, text string) {
	t.Helper()
	c := regexp.MustCompile(`has up to (\d+) files, which are (\S+) GiB`).FindStringSubmatch(text)
	n := regexp.MustCompile(`large enough for (\d+) partitions`).FindStringSubmatch(text)
	r := regexp.MustCompile(`rotate: \{size: (\d+)MiB, keep: (\d+)\}`).FindStringSubmatch(text)
	if c == nil || n == nil || r == nil {
		t.Fatalf("consumers.yaml has %q, %q, %q", c, n, r)
	}
	number := func(text string) float64 {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	files := number(r[2]) + 1 // the current one
	each := files * number(r[1]) / 1024
	if number(c[1]) != files || number(c[2]) != each || number(n[1]) != math.Floor(95/each) {
		t.Errorf("consumers.yaml has %q and %q, and a partition %v files of %v GiB", c[0], n[0], files, each)
	}
}

// TestStatusJobAsksEachReplica: the Job of Argo CD has one container for each replica of the
// StatefulSet, with the pod's name in the headless Service.
func TestStatusJobAsksEachReplica(t *testing.T) {
	objects := kubetest.Validate(t, kustomize(t, "argocd"))
	var set struct {
		Metadata struct{ Name string }
		Spec     struct {
			Replicas    int
			ServiceName string
		}
	}
	find(t, objects, "StatefulSet").Decode(t, &set)
	pod, _ := kubetest.PodOf(t, find(t, objects, "Job"))
	if len(pod.Spec.Containers) != set.Spec.Replicas {
		t.Errorf("%d containers for %d replicas", len(pod.Spec.Containers), set.Spec.Replicas)
	}
	for i, c := range pod.Spec.Containers {
		want := "--url=http://" + set.Metadata.Name + "-" + string(rune('0'+i)) + "." + set.Spec.ServiceName + ":8080"
		if got := c.Args[len(c.Args)-1]; got != want {
			t.Errorf("container %d has %s, want %s", i, got, want)
		}
	}
}
