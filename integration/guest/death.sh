#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# In the container: the four probes at work on /data, programs that wait for a lock there (static and
# dynamic), and others that append all the time. Says "ready", waits for /tmp/killed, and tells what each
# of them gets from then on. Itself it never touches /data, but for the last line.
set -euo pipefail
kinds="glibc musl static go"
declare -A in out
begin() { # NAME PROGRAM
	mkfifo "/tmp/$1.in" "/tmp/$1.out"
	"$2" < "/tmp/$1.in" > "/tmp/$1.out" &
	exec {i}> "/tmp/$1.in" {o}< "/tmp/$1.out"
	in[$1]=$i out[$1]=$o
}
answer() { read -r -t 60 reply <&"${out[$1]}" || { echo "$1 does not answer${2:+ to: $2}"; exit 1; }; }
expect() { # NAME COMMAND PATTERN
	echo "$2" >&"${in[$1]}"
	answer "$1" "$2"
	[[ $reply =~ ^($3)$ ]] || { echo "$1: $2: answered '$reply', not '$3'"; exit 1; }
}
all() { for k in $kinds; do expect "$k" "$1" "$2"; done; }

for k in $kinds; do begin "$k" "/probes/probe-$k"; done
all "open /data/f" ok
all "pwrite 0 text" 4
expect static "lock w 100 1" ok
busy=
for k in $kinds; do
	(yes "append /data/log x" | "/probes/probe-$k" | awk '$0 != "1" { print; exit }' > "/tmp/busy.$k") &
	busy+=" $!"
done
waiters=
if [ "${1:-}" = waiters ]; then
	waiters="glibc musl static"
	for k in $waiters; do
		cp "/probes/probe-$k" "/tmp/waiter-$k"
		begin "waiter-$k" "/tmp/waiter-$k"
		expect "waiter-$k" "open /data/f" ok
		echo "wait 100 1" >&"${in[waiter-$k]}"
	done
fi
echo ready
until [ -e /tmp/killed ]; do sleep 0.1; done

for k in $waiters; do
	answer "waiter-$k"
	[ "$reply" = EIO ] || { echo "$k: its wait for a lock ended with '$reply', not EIO"; exit 1; }
done
for b in $busy; do wait "$b" || true; done
for k in $kinds; do
	# ECONNABORTED: it was in the kernel face just then
	[[ $(< "/tmp/busy.$k") =~ ^(EIO|ENOTCONN|ECONNABORTED)$ ]] || { echo "$k: its appends ended with '$(< "/tmp/busy.$k")'"; exit 1; }
done
dead='EIO|ENOTCONN'
all "pread 0 4" EIO
all "pwrite 0 text" EIO
all size EIO
for at in "cat /data/f" "append /data/log x" "stat /data/f" "ls /data" "mkdir /data/d" "rename /data/f /data/g" "stat /data"; do
	all "$at" "$dead"
done
all "cat /etc/hostname" ".+"
for k in $kinds; do
	expect "$k" "append /tmp/beside-$k text" 4
	expect "$k" "stat /tmp/beside-$k" "4 1"
	expect "$k" "rename /tmp/beside-$k /tmp/moved-$k" ok
	expect "$k" "cat /tmp/moved-$k" text
	expect "$k" close "ok|EIO"
	expect "$k" "open /tmp/moved-$k" ok
	expect "$k" "pread 0 4" text
done
# programs that start now
for k in $kinds; do
	[ "$(echo "cat /tmp/moved-$k" | "/probes/probe-$k")" = text ] || { echo "$k: a new one reads nothing"; exit 1; }
	[[ $(echo "cat /data/f" | "/probes/probe-$k") =~ ^($dead)$ ]] || { echo "$k: a new one has the volume"; exit 1; }
done
[ "$(cd /tmp && /bin/ls moved-*)" = "$(printf 'moved-%s\n' glibc go musl static)" ] || { echo "ls"; exit 1; }
if cd /data 2> /dev/null; then echo "cd /data went through"; exit 1; fi
echo "all go on"
sleep 1000
