package packages

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"kcagent/e2e/wait"
)

// consumersFile is what the user makes of the installed file.
const consumersFile = `consumers:
- name: orders
  brokers: ["127.0.0.1:19092"]
  topics: [orders]
  instance_id: host-1
  sink: {file: {path: /var/lib/kcagent/orders.jsonl, format: json}}
`

// A format is a kind of packages with the commands that a user runs.
type format struct {
	name, program                    string
	file                             func(version) string
	install, upgrade, remove, onDisk string // %s is the file of the package
}

var formats = []format{
	{
		"deb", "dpkg", func(v version) string { return v.deb },
		"dpkg --force-unsafe-io --install %s", "dpkg --force-unsafe-io --install %s", "dpkg --remove kcagent",
		"dpkg-query --show --showformat '${Version}' kcagent",
	},
	// rpm of Debian does not know which programs are installed, hence --nodeps.
	{
		"rpm", "rpm", func(v version) string { return v.rpm },
		"rpm --force-debian --nodeps --install %s", "rpm --force-debian --nodeps --upgrade %s", "rpm --force-debian --nodeps --erase kcagent",
		"rpm --query --queryformat '%{VERSION}' kcagent",
	},
}

func (f format) installed(v version) string { return filepath.Join("/mnt", filepath.Base(f.file(v))) }

// apply runs one of the commands, which cannot ask anything.
func (f format) apply(h *host, command string, v version) {
	h.t.Helper()
	if strings.Contains(command, "%s") {
		command = fmt.Sprintf(command, f.installed(v))
	}
	h.sh(command + " </dev/null")
}

// TestPackageLife: a package is installed and started, upgraded, removed and installed again.
// The user's edits and data outlast all of it, and each record is in the file once.
func TestPackageLife(t *testing.T) {
	t.Parallel()
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			need(t, f.program, f.program)
			former, latter := releases(t)
			h := newHost(t, filepath.Dir(former.deb))
			h.sh("mkdir /tmp/demo && echo 'consumers: []' >/tmp/demo/consumers.yaml")
			h.background("/mnt/kcagent-" + latter.number + " demo --dir /tmp/demo --listen 127.0.0.1:8081")

			f.apply(h, f.install, former)
			checkInstalled(h)
			stop := h.startService()
			h.expect(former.number, "kcagent status --output json | sed -n 's/.*\"version\": *\"\\([^\"]*\\)\".*/\\1/p'")
			h.sh("cat >/etc/kcagent/consumers.yaml <<'END'\n" + consumersFile + "END")
			h.sh("kcagent status --wait /etc/kcagent/consumers.yaml --timeout 60s")
			grows(h)
			h.expect("kcagent kcagent", "stat -c '%U %G' /var/lib/kcagent/orders.jsonl")

			f.apply(h, f.upgrade, latter)
			stop()                                                                                         // as the script would with systemd
			h.expect("", "find /etc/kcagent /etc/default -name '*kcagent*.*' -o -name 'consumers.yaml.*'") // no second version of a file
			h.expect(strings.ReplaceAll(latter.number, "-", "~"), f.onDisk)
			h.expect("kcagent "+latter.number, "kcagent version | cut -d' ' -f1,2")
			h.expect(strings.TrimSuffix(consumersFile, "\n"), "cat /etc/kcagent/consumers.yaml")
			checkInstalled(h)
			stop = h.startService()
			grows(h)
			stop()
			verify(h)

			before := h.sh("cd /var/lib/kcagent && find . -type f -exec sha256sum {} + | sort")
			f.apply(h, f.remove, latter)
			h.expect("gone", "if [ -e /usr/bin/kcagent ]; then echo there; else echo gone; fi")
			h.expect(before, "cd /var/lib/kcagent && find . -type f -exec sha256sum {} + | sort")
			h.expect("kcagent", "id -un kcagent")
			if f.name == "rpm" {
				// rpm keeps an edited file under another name.
				h.sh("mv /etc/kcagent/consumers.yaml.rpmsave /etc/kcagent/consumers.yaml")
			}
			h.expect(strings.TrimSuffix(consumersFile, "\n"), "cat /etc/kcagent/consumers.yaml")

			f.apply(h, f.install, latter)
			h.expect(strings.TrimSuffix(consumersFile, "\n"), "cat /etc/kcagent/consumers.yaml")
			stop = h.startService()
			grows(h)
			stop()
			verify(h)
		})
	}
}

// checkInstalled checks the owners and modes of what the package has for the user kcagent.
func checkInstalled(h *host) {
	h.t.Helper()
	h.expect(`root kcagent 750 /etc/kcagent
root kcagent 640 /etc/kcagent/consumers.yaml
kcagent kcagent 750 /var/lib/kcagent
root kcagent 640 /etc/default/kcagent
root root 755 /usr/bin/kcagent`,
		"stat -c '%U %G %a %n' /etc/kcagent /etc/kcagent/consumers.yaml /var/lib/kcagent /etc/default/kcagent /usr/bin/kcagent")
	h.expect("kcagent:/var/lib/kcagent:/usr/sbin/nologin", "getent passwd kcagent | cut -d: -f1,6,7")
}

// grows waits until the service has written further records.
func grows(h *host) {
	h.t.Helper()
	size := func() int {
		n, err := strconv.Atoi(h.sh("stat -c %s /var/lib/kcagent/orders.jsonl 2>/dev/null || echo 0"))
		if err != nil {
			h.t.Fatal(err)
		}
		return n
	}
	before := size()
	wait.For(h.t, wait.Timeout, "further records", func() error {
		if n := size(); n <= before {
			return fmt.Errorf("%d bytes, as before", n)
		}
		return nil
	})
}

// verify checks that the file has each record once.
func verify(h *host) {
	h.t.Helper()
	h.sh("kcagent verify /var/lib/kcagent/orders.jsonl")
}
