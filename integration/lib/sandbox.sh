#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs one command on an installed Danaus without touching the machine: in its own mount, pid and
# network namespaces, with a private /run, and with /etc and /usr/local as overlays that hold what
# `meson install` put into $DANAUS_WORK/dest. Afterwards it looks for what the command left behind.
#
#   sandbox.sh NAME COMMAND...
#
# Environment: DANAUS_WORK, the directory of the whole run (build.sh describes its layout);
# SANDBOX_SECONDS, after which the command is ended, and what hung is told (none: no limit);
# DANAUS_HYBRID=1 keeps the cgroup layout of the machine, which crun 1.8 refuses when it is hybrid.
# Exit code: the command's, 124 when it ran out of its time, or 1 when it left something behind.
set -uo pipefail

if [ "${SANDBOX_INSIDE:-}" != 1 ]; then
	SANDBOX_INSIDE=1 exec unshare --mount --pid --net --fork --mount-proc --kill-child \
		--propagation private -- catatonit -- "$0" "$@" # reaps what loses its parent
fi
unset SANDBOX_INSIDE

name=$1; shift
work=${DANAUS_WORK:?}
export CASE_DIR=$work/cases/$name
export CASE_CGROUP=/danaus-test-$name-$(tr -dc a-z0-9 < /dev/urandom | head -c 10)
rm -rf "$CASE_DIR"
mkdir -p "$CASE_DIR"/{home,etc.up,etc.work,usr.up,usr.work}

overlay() { # overlay DIR UPPER: what is installed, over the machine's own
	local lower=$1
	if [ -d "$work/dest$1" ]; then lower=$work/dest$1:$1; fi
	mount -t overlay overlay -o "lowerdir=$lower,upperdir=$CASE_DIR/$2.up,workdir=$CASE_DIR/$2.work" "$1"
}
mount -t tmpfs -o mode=1777 shm /dev/shm || exit 1 # podman's locks
mount -t tmpfs -o mode=755 run /run && mkdir -m 1777 /run/lock || exit 1
overlay /etc etc || exit 1
overlay /usr/local usr || exit 1
if [ "${DANAUS_HYBRID:-0}" = 0 ] && mountpoint -q /sys/fs/cgroup/unified; then
	mkdir /run/cgroup && mount -t tmpfs -o mode=755 cgroup /run/cgroup || exit 1
	for c in /sys/fs/cgroup/*; do
		mountpoint -q "$c" && [ "$c" != /sys/fs/cgroup/unified ] || continue
		mkdir "/run/cgroup/${c##*/}" && mount --bind "$c" "/run/cgroup/${c##*/}" || exit 1
	done
	mount --move /run/cgroup /sys/fs/cgroup && rmdir /run/cgroup || exit 1
fi
ip link set lo up

export PATH=/usr/local/sbin:/usr/local/bin:$PATH # what is installed there
export HOME=$CASE_DIR/home
export CONTAINERS_CONF=$work/conf/containers.conf
export CONTAINERS_STORAGE_CONF=$work/conf/storage.conf
unset XDG_RUNTIME_DIR
cd "$CASE_DIR" || exit 1

mounts() { # those of the containers' store are podman's own
	awk -v store="$work/store/" 'index($5, store) != 1 { print $5 }' /proc/self/mountinfo | sort
}
processes() { # all but the first, this shell and the ones that ask
	for p in /proc/[0-9]*; do
		pid=${p#/proc/}
		[ "$pid" = 1 ] || [ "$pid" = $$ ] || [ "$pid" = "$BASHPID" ] && continue
		read -r _ comm state parent _ < <(sed 's/ (.*) / (comm) /' "$p/stat" 2>/dev/null) || continue
		[ "$parent" = "$BASHPID" ] && continue
		echo "$pid $(tr '\0' ' ' < "$p/cmdline" 2>/dev/null | cut -c1-120)[$(cat "$p/comm" 2>/dev/null)] $state"
	done
}
cgroups() { # but conmon's, which podman leaves to the parent
	find /sys/fs/cgroup/ -mindepth 2 -maxdepth 6 -type d -path "*$CASE_CGROUP/*" -not -name conmon 2>/dev/null
}
run_files() { find /run/danaus -mindepth 2 -not -name '*.log' 2>/dev/null; }
sockets() { awk 'NR > 1 && $8 ~ /danaus/ { print $8 }' /proc/net/unix; }

# What each thread waits for
tell_threads() {
	ps axfww -o pid,stat,args | cut -c1-140 | head -n 40
	for t in /proc/[0-9]*/task/*; do
		echo "${t#/proc/} $(cat "$t/comm") $(cut -d' ' -f3 "$t/stat") $(cat "$t/wchan") $(cut -d' ' -f1-5 "$t/syscall")"
	done 2>/dev/null | grep -v '^1/' | head -n 60
}
# A process that waits for a FUSE file system whose service hangs cannot be killed before this.
fuse_devices() { # of all that runs here
	cat /proc/[0-9]*/mountinfo 2>/dev/null | sed -nE 's/^[0-9]+ [0-9]+ 0:([0-9]+) .* - fuse[^c].*/\1/p' | sort -u
}
abort_fuse() {
	local c
	mkdir /run/fusectl && mount -t fusectl fusectl /run/fusectl || return
	for c in $(comm -13 <(echo "$devices") <(fuse_devices)); do echo 1 > "/run/fusectl/$c/abort"; done 2>/dev/null
	umount /run/fusectl
	rmdir /run/fusectl
}
watch() { # PROCESS
	local self=$BASHPID p
	trap 'kill $! 2>/dev/null; exit' TERM
	sleep "$SANDBOX_SECONDS" &
	wait $!
	touch "$CASE_DIR/ended"
	echo "not ended within $SANDBOX_SECONDS seconds; what runs:"
	tell_threads
	abort_fuse
	for p in $(processes | cut -d' ' -f1); do [ "$p" = "$self" ] || kill -KILL "$p"; done 2>/dev/null
}

before=$(mounts) devices=$(fuse_devices)
if [ -n "${SANDBOX_SECONDS:-}" ]; then
	"$@" &
	main=$!
	watch $main &
	wait $main
	code=$?
	kill -TERM $! 2>/dev/null
	wait
	[ ! -e "$CASE_DIR/ended" ] || code=124
else
	"$@"
	code=$?
fi

left=
for _ in $(seq 60); do # the last steps of a detach run on after podman has returned
	left=
	l=$(processes); [ -z "$l" ] || left+="processes: $l"$'\n'
	l=$(comm -13 <(echo "$before") <(mounts)); [ -z "$l" ] || left+="mounts: $l"$'\n'
	l=$(cgroups); [ -z "$l" ] || left+="cgroups: $l"$'\n'
	l=$(run_files); [ -z "$l" ] || left+="files: $l"$'\n'
	l=$(sockets); [ -z "$l" ] || left+="sockets: $l"$'\n'
	[ -n "$left" ] || break
	[ "$code" = 0 ] || break
	sleep 0.1
done
l=$(find "$CASE_DIR/etc.up" "$CASE_DIR/usr.up" "$HOME" -mindepth 1 -not -type d 2>/dev/null)
[ -z "$l" ] || left+="configuration changed: $l"$'\n'

if [ "$code" != 0 ] && [ "$code" != 77 ] || [ -n "$left" ]; then
	for log in /run/danaus/*.log /run/danaus/pools/*/log /var/log/danaus/*; do
		[ -s "$log" ] && echo "--- $log" && tail -n 60 "$log"
	done
fi
# Whatever is left goes now, so that the next case starts clean: containers in the run's store too.
if [ "$code" != 0 ] && [ "$code" != 77 ]; then
	timeout --kill-after=5 30 podman rm -fa -t 0 > /dev/null 2>&1
	timeout --kill-after=5 10 podman volume rm -fa > /dev/null 2>&1
fi
for c in $(crun list -q 2>/dev/null) $(runc list -q 2>/dev/null); do
	crun delete -f "$c" 2>/dev/null || runc delete -f "$c" 2>/dev/null
done
for p in $(processes | cut -d' ' -f1); do kill -KILL "$p" 2>/dev/null; done
for c in $(find /sys/fs/cgroup/ -mindepth 2 -depth -type d -path "*$CASE_CGROUP*" 2>/dev/null); do
	rmdir "$c" 2>/dev/null || { sleep 0.2; rmdir "$c" 2>/dev/null; }
done
if [ -n "$left" ]; then
	if [ "$code" = 0 ] || [ "$code" = 77 ]; then
		echo "left behind:"; echo -n "$left"; exit 1
	fi
	echo "left behind (after the failure):"; echo -n "$left" | head -n 40
fi
exit "$code"
