package helm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kcagent/deploy/kubernetes/kubetest"
	"kcagent/e2e/agenttest"
	"kcagent/e2e/process"
)

// A pod runs the agent of a rendered chart on this host, as kubelet would: the volumes are
// folders below root, and the container has the arguments and variables of its manifest only.
type pod struct {
	t       *testing.T
	name    string
	root    string // the folder that the container uses in place of /
	secrets map[string]map[string]string

	spec      statefulSet
	container container
	test      podSpec // of helm test
	proc      *process.Process
}

// newPod renders the chart with args and mounts the volumes of a pod.
func newPod(t *testing.T, name string, secrets map[string]map[string]string, args ...string) *pod {
	t.Helper()
	p := &pod{t: t, name: name, root: t.TempDir(), secrets: secrets}
	p.upgrade(args...)
	t.Cleanup(func() {
		if p.proc != nil {
			p.proc.Kill()
		}
		if t.Failed() {
			log, err := os.ReadFile(p.log())
			t.Logf("log of %s: %s %v", p.name, log, err)
		}
	})
	return p
}

func (p *pod) log() string { return filepath.Join(p.root, "log") }

// upgrade renders the chart again, and updates the volumes as kubelet does.
func (p *pod) upgrade(args ...string) {
	p.t.Helper()
	out, err := template(p.t, args...)
	if err != nil {
		p.t.Fatal(err)
	}
	onHost := strings.NewReplacer(
		"/etc/kcagent", p.root+"/etc/kcagent", "/data", p.root+"/data",
		"test-kcagent-0.test-kcagent-headless.data.svc", "127.0.0.1", "test-kcagent.data.svc", "127.0.0.1")
	all := parse(p.t, onHost.Replace(out))
	p.spec, p.container = agent(p.t, all, "test-kcagent")
	get(p.t, all, "Pod test-kcagent-test", &p.test)
	volumes := make(map[string]volume)
	for _, v := range append(p.test.Volumes, p.spec.Template.Spec.Volumes...) {
		volumes[v.Name] = v
	}
	for _, m := range p.container.VolumeMounts {
		v := volumes[m.Name]
		switch {
		case v.ConfigMap != nil:
			p.mount(m.MountPath, get(p.t, all, "ConfigMap "+v.ConfigMap.Name, nil).Data)
		case v.Secret != nil:
			p.mount(m.MountPath, p.secrets[v.Secret.SecretName])
		default:
			if err := os.MkdirAll(m.MountPath, 0o755); err != nil {
				p.t.Fatal(err)
			}
		}
	}
}

// mount writes the files of a ConfigMap or Secret, of which there must be some.
func (p *pod) mount(dir string, files map[string]string) {
	p.t.Helper()
	if len(files) == 0 {
		p.t.Fatalf("nothing is mounted at %s", dir)
	}
	kubetest.Project(p.t, dir, files)
}

// command returns the command of a container, with its variables only.
func (p *pod) command(c container) *exec.Cmd {
	p.t.Helper()
	env := make(map[string]string)
	for _, e := range c.Env {
		switch from := e.ValueFrom; {
		case from.FieldRef.FieldPath == "metadata.name":
			env[e.Name] = p.name
		case from.SecretKeyRef.Name != "":
			env[e.Name] = p.secrets[from.SecretKeyRef.Name][from.SecretKeyRef.Key]
		default:
			env[e.Name] = e.Value
		}
	}
	cmd := exec.Command(agenttest.Binary(p.t))
	cmd.Env = []string{"GORACE=halt_on_error=1"} // the binary may have the race detector
	var expand []string
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
		expand = append(expand, "$("+name+")", value)
	}
	for _, a := range c.Args {
		cmd.Args = append(cmd.Args, strings.NewReplacer(expand...).Replace(a))
	}
	return cmd
}

// start starts the agent.
func (p *pod) start() {
	p.t.Helper()
	cmd := p.command(p.container)
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	if p.proc, err = process.Start(cmd); err != nil {
		p.t.Fatal(err)
	}
}

// stop ends the agent as kubelet does, which kills it after the grace period.
func (p *pod) stop() {
	p.t.Helper()
	p.proc.Signal(syscall.SIGTERM)
	grace := time.NewTimer(time.Duration(p.spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second)
	defer grace.Stop()
	select {
	case <-p.proc.Done():
	case <-grace.C:
		p.t.Fatalf("%s did not end within its grace period", p.name)
	}
	if code := p.proc.ExitCode(); code != 0 {
		p.t.Errorf("%s ended with exit code %d", p.name, code)
	}
}

// helmTest runs the containers of helm test, and returns the errors of the containers that fail.
func (p *pod) helmTest() (failures []error) {
	p.t.Helper()
	for _, c := range p.test.Containers {
		cmd := p.command(c)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			failures = append(failures, fmt.Errorf("%s: %s: %w: %s", c.Name, cmd, err, out.String()))
		}
	}
	return failures
}
