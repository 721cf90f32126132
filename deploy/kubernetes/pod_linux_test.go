package kubernetes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"kcagent/deploy/kubernetes/kubetest"
	"kcagent/e2e/agenttest"
	"kcagent/e2e/loud"
	"kcagent/e2e/tools"
)

// A runningPod is a folder that the containers of a pod have as their root: with the binary of
// the image and the volumes of the pod, which have the owners that the kubelet gives them.
type runningPod struct {
	pod  kubetest.Pod
	root string

	chroot string // the path of the program, because env -i removes PATH
}

// newPod makes the root of a pod. Only root can change the root and the user of a process.
func newPod(t *testing.T, pod kubetest.Pod) *runningPod {
	t.Helper()
	if os.Getuid() != 0 {
		loud.Skip(t, tools.Require, "this test runs containers as their user, which requires root")
	}
	root, err := os.MkdirTemp("", "kcagent-pod-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(agenttest.ReleasedBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "kcagent"), binary, 0o755); err != nil {
		t.Fatal(err)
	}
	chroot, err := exec.LookPath("chroot")
	if err != nil {
		t.Fatal(err)
	}
	p := &runningPod{pod: pod, root: root, chroot: chroot}
	places := make(map[string]string) // of each volume: the containers share one root
	for _, c := range pod.All() {
		for _, m := range c.VolumeMounts {
			if at, ok := places[m.Name]; ok && at != m.MountPath {
				t.Fatalf("the volume %s is mounted at %s and %s", m.Name, at, m.MountPath)
			}
			places[m.Name] = m.MountPath
		}
	}
	for _, v := range pod.Spec.Volumes {
		dir := p.path(places[v.Name])
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if v.ConfigMap.Name != "" || v.Secret.SecretName != "" {
			continue // read-only for the user
		}
		// An emptyDir and a claimed volume belong to fsGroup, which may write to them.
		if err := os.Chown(dir, 0, pod.Spec.SecurityContext.FSGroup); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o775|os.ModeSetgid); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// path returns where a path of the containers is.
func (p *runningPod) path(inContainer string) string { return filepath.Join(p.root, inContainer) }

// project writes the file of a ConfigMap into its mount.
func (p *runningPod) project(t *testing.T, mountPath, text string) {
	t.Helper()
	kubetest.Project(t, p.path(mountPath), map[string]string{"consumers.yaml": text})
}

// container returns a container by name.
func (p *runningPod) container(t *testing.T, name string) kubetest.Container {
	t.Helper()
	for _, c := range p.pod.All() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("the pod has no container %s", name)
	return kubetest.Container{}
}

// as returns the command that runs another one in the pod, as the user and with the
// environment of a container, to which env is added.
func (p *runningPod) as(t *testing.T, c kubetest.Container, env ...string) []string {
	t.Helper()
	pod := p.pod.Spec.SecurityContext
	user, group := pod.RunAsUser, pod.RunAsGroup
	if c.SecurityContext.RunAsUser != 0 {
		user, group = c.SecurityContext.RunAsUser, c.SecurityContext.RunAsGroup
	}
	command := append([]string{"env", "-i"}, env...)
	for _, e := range c.Env {
		value := e.Value
		switch e.ValueFrom.FieldRef.FieldPath {
		case "":
		case "metadata.name":
			value = "kcagent-0"
		default:
			t.Fatalf("the variable %s is %+v, which this test does not know", e.Name, e.ValueFrom)
		}
		command = append(command, e.Name+"="+value)
	}
	return append(command, p.chroot, fmt.Sprintf("--userspec=%d:%d", user, group), "--groups="+strconv.Itoa(pod.FSGroup), p.root)
}

// start runs the container kcagent with the command line of the manifest, in which only the
// address of the HTTP API is another one: several tests run at the same time.
func (p *runningPod) start(t *testing.T, env ...string) *agenttest.Agent {
	t.Helper()
	c := p.container(t, "kcagent")
	stdout, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // the root has none
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	o := agenttest.Options{Binary: "/kcagent", Through: p.as(t, c, env...), Stdout: stdout}
	if len(c.Command) > 0 || len(c.Args) == 0 || c.Args[0] != "run" {
		t.Fatalf("the container has the command line %q %q, want the arguments of run", c.Command, c.Args)
	}
	listens := false
	for _, arg := range c.Args[1:] {
		if file, ok := strings.CutPrefix(arg, "--config="); ok {
			o.Path = file
		} else if arg == "--listen=:8080" {
			listens = true
		} else {
			o.Args = append(o.Args, arg)
		}
	}
	if o.Path == "" || !listens {
		t.Fatalf("the arguments are %q, want --config and --listen=:8080", c.Args)
	}
	a := agenttest.Start(t, o)
	for _, probe := range []kubetest.Probe{c.LivenessProbe, c.ReadinessProbe} {
		if code, body := a.Get(probe.HTTPGet.Path); code != 200 && code != 503 {
			t.Errorf("GET %s: code %d: %s", probe.HTTPGet.Path, code, body)
		}
	}
	return a
}

// run runs a command of another container of the pod, which ends by itself.
func (p *runningPod) run(t *testing.T, c kubetest.Container, command ...string) (output string, err error) {
	t.Helper()
	args := append(p.as(t, c), command...)
	out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
	return string(out), err
}
