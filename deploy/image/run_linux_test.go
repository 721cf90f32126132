package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"kcagent/e2e/loud"
	"kcagent/e2e/tools"
	"kcagent/e2e/wait"
)

// inside names the folder of the test in the environment of the process that has namespaces
// of its own.
const inside = "KCAGENT_TEST_IMAGE_FOLDER"

// TestImageRuns unpacks the image for this machine and runs it as container engines do: as
// its user, in its root file system, which is read-only, with its own command, environment
// and working folder. Namespaces of mounts and of the network keep the port 8080 and the
// mounts away from the rest of the machine, so the test runs in a second process.
func TestImageRuns(t *testing.T) {
	if dir := os.Getenv(inside); dir != "" {
		runImage(t, dir)
		return
	}
	if os.Geteuid() != 0 {
		loud.Skip(t, tools.Require, "only root can run an unpacked image")
	}
	t.Parallel()
	image, _ := built(t)
	dir := t.TempDir()
	if err := image.WriteLayout(filepath.Join(dir, "layout")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestImageRuns$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	// The thread that starts the process must live as long as the process, for Pdeathsig.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		loud.Skip(t, tools.Require, "this machine does not permit namespaces, so the image cannot run")
	}
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestImageRuns")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// A container is an unpacked image.
type container struct {
	root   string
	config v1.Config
}

func runImage(t *testing.T, dir string) {
	raiseLoopback(t)
	c := container{root: filepath.Join(dir, "root")}
	image := platform(t, filepath.Join(dir, "layout"))
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c.config = config.Config
	extract(t, image, c.root)
	if err := os.Mkdir(filepath.Join(c.root, "proc"), 0o755); err != nil { // engines create it, too
		t.Fatal(err)
	}
	data, settings := filepath.Join(dir, "data"), filepath.Join(dir, "settings")
	c.mount(t, nil)
	c.succeeds(t, "", "validate", "--config", "/etc/kcagent/consumers.yaml") // the file of the image

	c.mount(t, map[string]string{"/data": data, "/etc/kcagent": settings})
	broker := startBroker(t)
	text := fmt.Sprintf(`defaults: {brokers: [%q], topics: [orders], start: earliest}
consumers:
  - {name: orders, sink: {file: {path: /data/orders.log}}}
  - {name: elsewhere, sink: {file: {path: /elsewhere.log}}}
`, broker)
	if err := os.WriteFile(filepath.Join(settings, "consumers.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	zones := `consumers: [{name: a, brokers: ["k:9092"], topics: [t], sink: {objects: {url: s3://lake, time_zone: Europe/Berlin}}}]`
	if err := os.WriteFile(filepath.Join(settings, "zones.yaml"), []byte(zones), 0o644); err != nil {
		t.Fatal(err)
	}
	c.succeeds(t, "", "validate", "--config", "/etc/kcagent/zones.yaml") // the image has no files with time zones
	c.succeeds(t, testVersion, "version")
	c.succeeds(t, "", "validate", "--config", "/etc/kcagent/consumers.yaml")

	agent := c.command(c.config.Entrypoint, c.config.Cmd)
	var log bytes.Buffer
	agent.Stderr = &log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- agent.Wait() }()
	defer func() {
		_ = agent.Process.Kill()
		if t.Failed() {
			t.Logf("log of the agent:\n%s", &log)
		}
	}()
	wait.For(t, wait.Timeout, "the health check of the image", func() error {
		out, err := c.command(c.config.Healthcheck.Test[1:2], c.config.Healthcheck.Test[2:]).CombinedOutput()
		return annotate(err, out)
	})
	written := filepath.Join(data, "orders.log")
	wait.For(t, wait.Timeout, "the record in /data", func() error {
		content, err := os.ReadFile(written)
		if err == nil && string(content) != "first\n" {
			err = fmt.Errorf("the file has %q", content)
		}
		return err
	})
	if info, err := os.Stat(written); err != nil || info.Sys().(*syscall.Stat_t).Uid != uid {
		t.Errorf("the file does not belong to the user %d of the image: %v, %v", uid, info, err)
	}
	wait.For(t, wait.Timeout, "the error of the file outside /data", writeOutside)
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("after SIGTERM, the agent ended with %v", err)
	}
}

// writeOutside returns nil once /status reports that the file outside /data cannot be opened,
// because the root file system is read-only.
func writeOutside() error {
	r, err := http.Get("http://127.0.0.1:8080/status")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	var status struct {
		Consumers []struct {
			Name   string
			Status string
		}
	}
	text, err := io.ReadAll(r.Body)
	if err := cmp.Or(err, json.Unmarshal(text, &status)); err != nil {
		return err
	}
	for _, c := range status.Consumers {
		if c.Name == "elsewhere" && c.Status == "ERROR" && strings.Contains(string(text), "read-only file system") {
			return nil
		}
	}
	return fmt.Errorf("status is %s", text)
}

func (c container) command(program, args []string) *exec.Cmd {
	cmd := exec.Command(program[0], append(program[1:len(program):len(program)], args...)...)
	cmd.Env = append([]string{}, c.config.Env...) // not nil, which would mean the environment of the test
	cmd.Dir = c.config.WorkingDir
	var user, group uint32
	if _, err := fmt.Sscanf(c.config.User, "%d:%d", &user, &group); err != nil {
		panic(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root, Credential: &syscall.Credential{Uid: user, Gid: group}, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// succeeds runs a command of the entry point, which must print want.
func (c container) succeeds(t *testing.T, want string, args ...string) {
	t.Helper()
	out, err := c.command(c.config.Entrypoint, args).CombinedOutput()
	if err != nil || !strings.Contains(string(out), want) {
		t.Fatalf("%v: %v\n%s", args, annotate(err, out), out)
	}
}

// mount makes the root file system read-only, with volumes, which are folders outside, at
// some of its folders.
func (c container) mount(t *testing.T, volumes map[string]string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")) // nothing of this leaves the namespace
	must(unix.Mount(c.root, c.root, "", unix.MS_BIND, ""))
	for at, outside := range volumes {
		inside := filepath.Join(c.root, at)
		info, err := os.Stat(inside)
		must(err)
		must(os.Mkdir(outside, 0o755))
		// An engine gives a new volume the owner of the folder of the image.
		owner := info.Sys().(*syscall.Stat_t)
		must(os.Chown(outside, int(owner.Uid), int(owner.Gid)))
		must(unix.Mount(outside, inside, "", unix.MS_BIND, ""))
	}
	must(unix.Mount("proc", filepath.Join(c.root, "proc"), "proc", 0, ""))
	must(unix.Mount("", c.root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	if err := os.WriteFile(filepath.Join(c.root, "x"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Fatalf("the root file system is not read-only: %v", err)
	}
}

// platform returns the image for this machine from a layout.
func platform(t *testing.T, dir string) v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	for {
		list, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list.Manifests {
			if p := m.Platform; p != nil && p.Architecture == runtime.GOARCH {
				image, err := index.Image(m.Digest)
				if err != nil {
					t.Fatal(err)
				}
				return image
			}
		}
		if index, err = index.ImageIndex(list.Manifests[0].Digest); err != nil {
			t.Fatal(err)
		}
	}
}

// extract writes the files of an image to dir, with their owners.
func extract(t *testing.T, image v1.Image, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	stream := mutate.Extract(image)
	defer stream.Close()
	for r := tar.NewReader(stream); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.Mkdir(path, 0o755)
		case tar.TypeReg:
			var content []byte
			if content, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, content, 0o644)
			}
		default:
			err = fmt.Errorf("%s has the type %c", h.Name, h.Typeflag)
		}
		if err := errors.Join(err, os.Chmod(path, h.FileInfo().Mode()), os.Chown(path, h.Uid, h.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// startBroker starts an embedded broker with a record in the topic orders, and returns its
// address.
func startBroker(t *testing.T) string {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	record := &kgo.Record{Topic: "orders", Value: []byte("first")}
	if err := client.ProduceSync(context.Background(), record).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return cluster.ListenAddrs()[0]
}

// raiseLoopback enables the loopback interface, which is down in a new namespace.
func raiseLoopback(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		t.Fatal(err)
	}
}

// annotate adds the output of a command to its error.
func annotate(err error, out []byte) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
}
