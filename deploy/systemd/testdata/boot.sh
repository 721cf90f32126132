#!/bin/sh
# boot.sh ROOT KCAGENT UNIT DEFAULT runs systemd as the first process of new namespaces, with a
# root of its own that has the unit and the libraries of this machine. It changes nothing
# outside: what it mounts is gone with its processes, except an empty cgroup. systemd starts
# nothing by itself: sysinit.target and others are empty.
set -e
if [ "$5" != inside ]; then
	mount -t tmpfs tmpfs "$1" # in a mount namespace: see the test
	mkdir "$1/cgroup"
	mount -t cgroup2 cgroup2 "$1/cgroup"
	mkdir "$1/cgroup/kcagent-test-$$"
	echo $$ >"$1/cgroup/kcagent-test-$$/cgroup.procs"
	exec unshare --pid --fork --kill-child --mount --cgroup --uts --ipc sh "$0" "$1" "$2" "$3" "$4" inside
fi

mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir -p usr/bin etc/systemd/system/kcagent.service.d etc/default etc/kcagent var/lib var/log run tmp proc sys dev root old
for d in lib lib64 sbin share; do
	[ -d /usr/$d ] || continue
	mkdir usr/$d
	mount --rbind /usr/$d usr/$d
	mount -o remount,bind,ro usr/$d
done
for d in bin lib lib64 sbin; do ln -s usr/$d $d; done
for p in env sh cat kill umount systemctl; do cp /usr/bin/$p usr/bin/; done
cp "$2" usr/bin/kcagent
cp "$3" etc/systemd/system/
cp "$4" etc/default/kcagent
mount -t tmpfs tmpfs usr/lib/systemd/system
mount -t tmpfs tmpfs usr/lib/systemd/system-generators
for t in sysinit basic shutdown network-online; do
	printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' $t >usr/lib/systemd/system/$t.target
done
cat >etc/passwd <<-X
	root:x:0:0::/root:/bin/sh
	kcagent:x:1234:1234::/var/lib/kcagent:/bin/false
	nobody:x:65534:65534::/:/bin/false
X
printf 'root:x:0:\nkcagent:x:1234:\nnogroup:x:65534:\n' >etc/group
printf 'passwd: files\ngroup: files\n' >etc/nsswitch.conf
touch etc/machine-id
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for n in null zero full random urandom tty; do
	touch dev/$n
	mount --bind /dev/$n dev/$n
done
mkdir dev/shm dev/pts dev/mqueue dev/hugepages
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
touch dev/kmsg # a file in place of the log of the kernel
pivot_root . old
umount -l old
exec env -i container=kcagent-test PATH=/usr/bin:/usr/sbin /lib/systemd/systemd --unit=basic.target --log-target=kmsg --show-status=0
