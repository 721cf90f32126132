package kubernetes

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"kcagent/deploy/kubernetes/kubetest"
	"kcagent/e2e/agenttest"
)

const page = "../../docs/kubernetes.md"

// blocks returns the code blocks of the documentation in a language.
func blocks(t *testing.T, language string) (all []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(read(t, page), -1) {
		all = append(all, m[1])
	}
	return all
}

// TestDocumentationShowsTheOverlay: the pod with git-sync in the documentation has the
// arguments of the overlay, and the agent reads the same file.
func TestDocumentationShowsTheOverlay(t *testing.T) {
	shown := podOf(t, strings.Join(blocks(t, "yaml"), "---\n"), "Pod")
	overlay := podOf(t, kustomize(t, "overlays/git-sync"), "StatefulSet")
	for i, got := range shown.All() {
		want := overlay.All()[i]
		if got.Name == "kcagent" {
			want.Args = want.Args[:len(want.Args)-1] // the default of --shutdown-timeout
			want.VolumeMounts = want.VolumeMounts[:1]
		} else {
			want.VolumeMounts = want.VolumeMounts[:1] // the home of git-sync is needed for a read-only root only
		}
		if !reflect.DeepEqual(got.Args, want.Args) || got.Image != want.Image || got.RestartPolicy != want.RestartPolicy ||
			!reflect.DeepEqual(got.StartupProbe, want.StartupProbe) || !reflect.DeepEqual(got.VolumeMounts, want.VolumeMounts) || !reflect.DeepEqual(got.Env, want.Env) {
			t.Errorf("the documentation has %+v, the overlay %+v", got, want)
		}
	}
}

// TestApplicationsHaveSources: the path of each Application of Argo CD is a folder of the
// repository that Argo CD can render, and the chart has the values that it sets.
func TestApplicationsHaveSources(t *testing.T) {
	kinds := make(map[string]bool)
	for _, text := range append(blocks(t, "yaml"), read(t, "argocd/application.yaml")) {
		for _, o := range kubetest.Validate(t, text) {
			if o.Kind != "Application" {
				continue
			}
			var a struct {
				Spec struct {
					Source struct {
						Path string
						Helm struct{ Parameters, FileParameters []struct{ Name string } }
					}
				}
			}
			o.Decode(t, &a)
			dir := filepath.Join("../..", a.Spec.Source.Path)
			if _, err := os.Stat(filepath.Join(dir, "kustomization.yaml")); err == nil {
				kinds["kustomization"] = true
				continue
			}
			if _, err := os.Stat(filepath.Join(dir, "Chart.yaml")); err != nil {
				t.Errorf("%s is neither a kustomization nor a chart", a.Spec.Source.Path)
				continue
			}
			kinds["chart"] = true
			var values map[string]any
			if err := yaml.Unmarshal([]byte(read(t, filepath.Join(dir, "values.yaml"))), &values); err != nil {
				t.Fatal(err)
			}
			set := make(map[string]bool)
			for _, p := range slices.Concat(a.Spec.Source.Helm.Parameters, a.Spec.Source.Helm.FileParameters) {
				set[p.Name] = true
				var value any = values
				for key := range strings.SplitSeq(p.Name, ".") {
					inner, _ := value.(map[string]any)
					var ok bool
					if value, ok = inner[key]; !ok {
						t.Errorf("the chart has no value %s", p.Name)
					}
				}
			}
			if !set["image.repository"] || !set["image.tag"] { // the default is no image of a registry
				t.Errorf("the Application of the chart sets %v and no image", set)
			}
		}
	}
	if !kinds["kustomization"] || !kinds["chart"] {
		t.Errorf("the Applications have sources of the kinds %v only", kinds)
	}
}

// TestDocumentedValidationSucceeds runs the command that the documentation has for CI.
func TestDocumentedValidationSucceeds(t *testing.T) {
	command := ""
	for _, block := range blocks(t, "sh") {
		if strings.Contains(block, "kcagent validate") {
			command = block
		}
	}
	if command == "" {
		t.Fatal("no command")
	}
	cmd := exec.Command("sh", "-e")
	cmd.Stdin = strings.NewReader(command)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(agenttest.ReleasedBinary(t))+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", command, err, out)
	}
}

// TestTwoInstallationsInOneNamespace: with a prefix and another label, as the documentation
// says, the selectors of the base and of a second installation select their own pods only.
func TestTwoInstallationsInOneNamespace(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(dir, "second")
	write(t, filepath.Join(second, "kustomization.yaml"), `resources: [../base]
namePrefix: orders-
labels: [{pairs: {app.kubernetes.io/instance: orders}, includeSelectors: true}]
`)
	text := kustomize(t, second)
	kubetest.References(t, kubetest.Validate(t, kustomize(t, "base")+"---\n"+text))
	set := find(t, kubetest.Validate(t, text), "StatefulSet")
	var s struct{ Spec struct{ ServiceName string } }
	set.Decode(t, &s)
	pod, _ := kubetest.PodOf(t, set)
	if s.Spec.ServiceName != "orders-kcagent-headless" || pod.Spec.Volumes[0].ConfigMap.Name != "orders-kcagent" {
		t.Errorf("the second StatefulSet has the service %s and the volumes %+v", s.Spec.ServiceName, pod.Spec.Volumes)
	}
}

// TestImagesHaveTheDocumentedName: each manifest has the name of the image that the
// documentation says to replace, apart from the base, in which an overlay replaces it.
func TestImagesHaveTheDocumentedName(t *testing.T) {
	name := regexp.MustCompile("replace `(\\S*/kcagent:\\S*)` in the examples").FindStringSubmatch(read(t, page))
	if name == nil {
		t.Fatal("the documentation names no image")
	}
	found := 0
	for file, text := range manifests(t) {
		for _, m := range regexp.MustCompile(`(?m)image: (\S*kcagent\S*)$`).FindAllStringSubmatch(text, -1) {
			found++
			if want := name[1]; file != "base" && m[1] != want {
				t.Errorf("%s has the image %s, want %s", file, m[1], want)
			}
		}
	}
	if found < 6 {
		t.Errorf("found %d images, want 6 or more", found)
	}
}

// TestOverlayWithTheBaseByURL: the overlay is the same with the base at the URL that the
// documentation has, which is the repository here.
func TestOverlayWithTheBaseByURL(t *testing.T) {
	url := regexp.MustCompile("`https://git.example.com/kafka/kcagent.git(//\\S+\\?ref=(\\S+))`").FindStringSubmatch(read(t, page))
	if url == nil {
		t.Fatal("the documentation has no URL of the base")
	}
	repository, overlay := t.TempDir(), t.TempDir()
	if err := os.CopyFS(filepath.Join(repository, "deploy/kubernetes/base"), os.DirFS("base")); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"init -q", "add .", "-c user.name=test -c user.email=test@example.com commit -q -m base", "tag " + url[2]} {
		if out, err := exec.Command("git", append([]string{"-C", repository}, strings.Fields(args)...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
	if err := os.CopyFS(overlay, os.DirFS("overlays/production")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(overlay, "kustomization.yaml")
	write(t, file, strings.Replace(read(t, file), "../../base", "file://"+repository+url[1], 1))
	if got := kustomize(t, overlay); got != kustomize(t, "overlays/production") {
		t.Errorf("with the base by URL, the overlay is\n%s", got)
	}
}
