package ansible

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kcagent/e2e/loud"
	"kcagent/e2e/tools"
)

// inCopy runs a script, its third argument, in a copy of this machine's files, with the mounts
// of its second argument: changes go to memory.
const inCopy = `
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount --bind /proc proc
mount --bind /dev dev
mount -t tmpfs tmpfs tmp
for dir in $2; do
	mkdir -p ".$dir"
	mount --bind "$dir" ".$dir"
done
rm -rf usr/bin/kcagent etc/kcagent etc/default/kcagent
echo 'exit 101' > usr/sbin/policy-rc.d
echo 'the copy is ready'
exec chroot . sh -euc "$3"`

// deb builds a package with a version, and with a script that prints it in place of kcagent.
func deb(t *testing.T, dir, version string) string {
	t.Helper()
	root := filepath.Join(dir, version)
	for name, text := range map[string]string{
		"DEBIAN/control":  fmt.Sprintf("Package: kcagent\nVersion: %s\nArchitecture: all\nMaintainer: none <none@kcagent.invalid>\nDescription: a test\n", version),
		"usr/bin/kcagent": "#!/bin/sh\necho kcagent " + version + "\n",
	} {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	path := root + ".deb"
	if out, err := exec.Command("dpkg-deb", "--build", "--root-owner-group", root, path).CombinedOutput(); err != nil {
		loud.Skip(t, tools.Require, fmt.Sprintf("dpkg-deb (Debian) does not work: %v\n%s", err, out))
	}
	return path
}

// TestRoleInstallsAndUpgradesThePackage of the controller, in a copy of this machine's files.
func TestRoleInstallsAndUpgradesThePackage(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		loud.Skip(t, tools.Require, "the installation of a package needs root")
	}
	if out, err := exec.Command("/usr/bin/python3", "-c", "import apt").CombinedOutput(); err != nil {
		loud.Skip(t, tools.Require, fmt.Sprintf("python3-apt is not installed (Debian: apt-get install python3-apt): %v\n%s", err, out))
	}
	r := newRollout(t)
	dir, repository := t.TempDir(), abs(t, filepath.Join("..", ".."))
	script := "cd " + abs(t, "testdata")
	runs := []struct{ version, flags, want string }{
		{"1.0.0", "--check", "host changed=2 failed=0, none"},
		{"1.0.0", "", "host changed=2 failed=0, kcagent 1.0.0"},
		{"1.0.0", "", "host changed=0 failed=0, kcagent 1.0.0"},
		{"1.1.0", "", "host changed=1 failed=0, kcagent 1.1.0"},
	}
	for i, run := range runs {
		vars, err := json.Marshal(map[string]any{
			"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3",
			"kcagent_package": deb(t, dir, run.version), "kcagent_manage_service": false, "kcagent_group": "root",
		})
		if err != nil {
			t.Fatal(err)
		}
		inventory := filepath.Join(dir, fmt.Sprint(i, ".json"))
		if err := os.WriteFile(inventory, []byte(`{"kcagent": {"hosts": {"host": `+string(vars)+`}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		script += fmt.Sprintf("\nansible-playbook -i %s %s role.yaml\nkcagent version 2>/dev/null || echo none", inventory, run.flags)
	}
	cmd := exec.Command("unshare", "--mount", "sh", "-c", inCopy, "sh", t.TempDir(),
		strings.Join([]string{repository, filepath.Dir(r.commands), dir}, " "), script)
	cmd.Env = append(r.env, "HOME=/root", "ANSIBLE_HOME=/root/.ansible", "PATH="+r.commands+":/usr/sbin:/usr/bin:/sbin:/bin")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	_, output, ready := strings.Cut(string(out), "the copy is ready\n")
	if !ready {
		loud.Skip(t, tools.Require, fmt.Sprintf("the system does not permit a copy of its files: %v\n%s", err, out))
	}
	if err != nil {
		t.Error(err)
	}
	parts := strings.Split(output, "\nPLAY [")[1:]
	if len(parts) != len(runs) {
		t.Fatalf("%d playbooks ran, want %d", len(parts), len(runs))
	}
	for i, run := range runs {
		_, version, _ := strings.Cut(parts[i], "ignored=0")
		if got := recap(parts[i]) + ", " + strings.TrimSpace(version); got != run.want {
			t.Errorf("run %d of version %s %s: %s, want %s", i, run.version, run.flags, got, run.want)
		}
		// The packages restart the service themselves, where systemd runs.
		if says := strings.Contains(parts[i], "restart kcagent: kcagent_manage_service is false"); run.flags == "" && says == strings.Contains(run.want, "changed=0") {
			t.Errorf("run %d of version %s asks for a restart: %v", i, run.version, says)
		}
	}
}
