package packages

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// recordSystemctl replaces systemctl of a host by a script that records its calls, apart from
// questions and those that only change links. The service is enabled for it.
const recordSystemctl = `
mkdir -p /run/systemd/system
cat >/usr/bin/systemctl <<'END'
#!/bin/sh
case "$*" in
*is-enabled*) echo enabled ;;
*is-active* | *--root=*) ;;
*) echo "$*" >>/run/calls ;;
esac
END`

// TestServiceFollowsThePackage: the scripts start the service, restart it once after an
// upgrade, and stop it, with the tools that the host has.
func TestServiceFollowsThePackage(t *testing.T) {
	t.Parallel()
	deb, rpm := formats[0], formats[1]
	for _, c := range []struct {
		name                     string
		format                   format
		without                  string // programs that the host lacks
		install, upgrade, remove []string
	}{
		{
			"deb", deb, "",
			[]string{"daemon-reload", "--quiet --system start kcagent.service"},
			[]string{"daemon-reload", "--quiet --system restart kcagent.service"},
			[]string{"stop kcagent.service", "daemon-reload"},
		},
		{
			"deb without helpers", deb, "/usr/bin/deb-systemd-helper /usr/bin/deb-systemd-invoke /usr/bin/systemd-sysusers",
			[]string{"--quiet enable kcagent.service", "daemon-reload", "start kcagent.service"},
			[]string{"daemon-reload", "restart kcagent.service"},
			[]string{"stop kcagent.service", "daemon-reload"},
		},
		{
			"rpm", rpm, "",
			[]string{"--quiet --no-reload preset kcagent.service", "daemon-reload"},
			[]string{"daemon-reload", "daemon-reload", "try-restart kcagent.service"},
			[]string{"--quiet --no-reload disable --now kcagent.service", "daemon-reload"},
		},
		{
			"rpm without helpers", rpm, "/usr/bin/systemd-sysusers",
			[]string{"--quiet --no-reload preset kcagent.service", "daemon-reload"},
			[]string{"daemon-reload", "daemon-reload", "try-restart kcagent.service"},
			[]string{"--quiet --no-reload disable --now kcagent.service", "daemon-reload"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			need(t, c.format.program, c.format.program)
			former, latter := releases(t)
			h := newHost(t, filepath.Dir(former.deb))
			h.sh(recordSystemctl)
			if c.without != "" {
				h.sh("rm " + c.without)
			}
			for _, step := range []struct {
				command string
				version version
				want    []string
			}{
				{c.format.install, former, c.install}, {c.format.upgrade, latter, c.upgrade}, {c.format.remove, latter, c.remove},
			} {
				c.format.apply(h, step.command, step.version)
				calls := strings.Split(h.sh("cat /run/calls; rm /run/calls"), "\n")
				if !slices.Equal(calls, step.want) {
					t.Errorf("%s calls systemctl with %q, want %q", step.command, calls, step.want)
				}
				if step.command != c.format.remove {
					checkInstalled(h)
				}
			}
		})
	}
}

// TestDebianScriptsKeepWhatTheAdministratorSet: owners, modes, and a service that is disabled.
// The scripts can run again.
func TestDebianScriptsKeepWhatTheAdministratorSet(t *testing.T) {
	t.Parallel()
	need(t, "dpkg", "dpkg")
	former, latter := releases(t)
	h, deb := newHost(t, filepath.Dir(former.deb)), formats[0]
	const enabled = "if [ -e /etc/systemd/system/multi-user.target.wants/kcagent.service ]; then echo yes; else echo no; fi"
	deb.apply(h, deb.install, former)
	h.expect("yes", enabled)
	h.sh("/var/lib/dpkg/info/kcagent.postinst configure && /var/lib/dpkg/info/kcagent.postinst configure")
	h.expect("yes", enabled)
	checkInstalled(h)

	h.sh(`systemctl --quiet disable kcagent.service
dpkg-statoverride --update --add root adm 0700 /var/lib/kcagent
chgrp adm /etc/kcagent/consumers.yaml
chmod 0600 /etc/kcagent/consumers.yaml`)
	deb.apply(h, deb.upgrade, latter)
	h.expect("no", enabled)
	h.expect("root adm 700 /var/lib/kcagent\nroot adm 600 /etc/kcagent/consumers.yaml",
		"stat -c '%U %G %a %n' /var/lib/kcagent /etc/kcagent/consumers.yaml")
}

// TestUpgradeKeepsEdits, also if the new version brings another file. Without a terminal dpkg
// needs an option for that.
func TestUpgradeKeepsEdits(t *testing.T) {
	t.Parallel()
	need(t, "dpkg", "dpkg")
	_, v := releases(t)
	h, deb := newHost(t, filepath.Dir(v.deb)), formats[0]
	deb.apply(h, deb.install, v)
	h.sh(`cd /tmp
echo "# edited" >>/etc/kcagent/consumers.yaml
dpkg-deb --raw-extract ` + deb.installed(v) + ` unpacked
echo "# new" >>unpacked/etc/kcagent/consumers.yaml
dpkg-deb --build -Znone unpacked new.deb`)
	if out, err := h.command("sh", "-c", "dpkg --force-unsafe-io --install /tmp/new.deb </dev/null").CombinedOutput(); err == nil {
		t.Errorf("dpkg does not ask which file to use:\n%s", out)
	}
	h.sh("dpkg --force-unsafe-io --force-confold --install /tmp/new.deb </dev/null")
	h.expect("# edited", "tail -1 /etc/kcagent/consumers.yaml")
	h.expect("# new", "tail -1 /etc/kcagent/consumers.yaml.dpkg-dist")
	checkInstalled(h)
}

// TestPurgeKeepsData: a purge removes the configuration, but no record.
func TestPurgeKeepsData(t *testing.T) {
	t.Parallel()
	need(t, "dpkg", "dpkg")
	_, v := releases(t)
	h, deb := newHost(t, filepath.Dir(v.deb)), formats[0]
	deb.apply(h, deb.install, v)
	h.sh("echo record >/var/lib/kcagent/orders.log")
	out := h.sh("dpkg --purge kcagent")
	if !strings.Contains(out, "/var/lib/kcagent is not empty and was kept") {
		t.Errorf("the purge does not say what it kept:\n%s", out)
	}
	h.expect("/var/lib/kcagent/orders.log", "find /etc/kcagent /etc/default/kcagent /etc/systemd/system/*/kcagent.service /var/lib/kcagent -type f 2>/dev/null || true")
	h.expect("", "dpkg-query --list kcagent 2>/dev/null || true")

	deb.apply(h, deb.install, v)
	h.expect("record", "cat /var/lib/kcagent/orders.log; rm /var/lib/kcagent/orders.log")
	checkInstalled(h)
	h.sh("dpkg --purge kcagent")
	h.expect("", "find /etc /var/lib -path '*kcagent*'")
}

// TestInstalledHelpWorks: the shells of the host find the completion, and man the pages.
func TestInstalledHelpWorks(t *testing.T) {
	t.Parallel()
	for _, f := range formats {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for _, p := range []string{f.program, "zsh", "fish"} {
				need(t, p, p)
			}
			need(t, "man", "man-db")
			v, _ := releases(t)
			h := newHost(t, filepath.Dir(v.deb))
			f.apply(h, f.install, v)
			h.expect("complete -o default -F __start_kcagent kcagent", `bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader kcagent; complete -p kcagent'`)
			h.expect("status", `fish -c 'complete --do-complete "kcagent stat"' | cut -f1`)
			folder := map[string]string{"deb": "/usr/share/zsh/vendor-completions", "rpm": "/usr/share/zsh/site-functions"}[f.name]
			// site-functions is among the folders of zsh on distributions with rpm.
			h.expect("_kcagent", "zsh -fc 'fpath=("+folder+" $fpath); autoload -U compinit; compinit -u; echo $_comps[kcagent]'")
			if page := h.sh("MANPAGER=cat man kcagent-run"); !strings.Contains(page, "--shutdown-timeout") {
				t.Errorf("man shows\n%s", page)
			}
		})
	}
}
