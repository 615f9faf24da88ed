#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Stops the cluster that ceph-dev-up.sh DIR started, by the pids that its daemons wrote. What was in
# memory is gone. Waits until they have ended.
set -uo pipefail
D=$(realpath -m "${1:?usage: ceph-dev-down.sh DIR}")
pids=()
for f in "$D"/run/*.pid; do
	[ -s "$f" ] || continue
	p=$(cat "$f")
	# The number may be somebody else's by now
	[ -r "/proc/$p/cmdline" ] && tr "\0" " " < "/proc/$p/cmdline" | grep -q "^ceph-" && pids+=("$p")
done
[ ${#pids[@]} -gt 0 ] || exit 0
kill "${pids[@]}" 2>/dev/null
for _ in $(seq 100); do
	left=0
	for p in "${pids[@]}"; do [ -e "/proc/$p" ] && left=1; done
	[ $left = 1 ] || exit 0
	sleep 0.1
done
kill -9 "${pids[@]}" 2>/dev/null
exit 0
