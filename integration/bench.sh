#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Compares what a container's program gets from a volume, in one run, side by side: a plain bind
# volume (an ext4 of its own), Danaus through each of its doors, a FUSE file system whose
# names and data the kernel does not cache, and fuse-overlayfs. Nanoseconds per operation, ratios,
# and the targets. Wants an idle machine with two CPUs.
#
# "ceph": ceph-fuse, unionfs-fuse over it, Danaus's ceph, cache over it and union, on a cluster of its own;
# wants the packages of a cluster, and ceph-fuse, unionfs-fuse and rocksdb-tools for what they are
# compared in. Its parts, for --only: operations, mix, rocksdb, neighbour.
#
#   bench.sh [ceph [--only PART]] [--dir DIR] [--ms MILLISECONDS] [--rounds N] [--cpus LIST] [--json FILE]
set -euo pipefail
SRC=$(cd "$(dirname "$0")/.." && pwd)
. "$SRC/integration/lib/build.sh"

what=bench
if [ "${1:-}" = ceph ]; then what=bench-ceph; shift; fi
work= ms=200 rounds=5 cpus= json= only=
while [ $# -gt 0 ]; do
	case $1 in
	--dir) work=$2 ;; --ms) ms=$2 ;; --rounds) rounds=$2 ;; --cpus) cpus=$2 ;; --json) json=$2 ;; --only) only=$2 ;;
	*) sed -n 's/^# \{0,1\}//; 3,13p' "$0" >&2; exit 2 ;;
	esac
	shift 2
done
[ "$(id -u)" = 0 ] || { echo "integration/bench.sh: needs root" >&2; exit 2; }
if [ -z "$work" ]; then
	work=$(mktemp -d /var/tmp/danaus-bench.XXXXXX)
	trap 'rm -rf --one-file-system "$work"' EXIT
fi
mkdir -p "$work/logs"
export DANAUS_WORK=$work
{ packages_install && build_default && install_private && image full; } > "$work/logs/bench-setup" 2>&1 ||
	{ tail -n 40 "$work/logs/bench-setup"; exit 1; }
if [ $what = bench-ceph ]; then
	BENCH_MS=$ms BENCH_ROUNDS=$rounds BENCH_ONLY=$only sandbox bench-ceph bash "$SRC/integration/lib/bench-ceph.sh" \
		"$SRC/integration/src" "$(realpath -m "${json:-$work/bench-ceph.json}")"
	exit
fi
BENCH_MS=$ms BENCH_ROUNDS=$rounds BENCH_CPUS=$cpus sandbox bench \
	python3 "$SRC/integration/lib/bench-inside.py" "$SRC/integration/src" "$work/bench.json"
pinning=${cpus:+containers, services and programs on $cpus}
python3 "$SRC/integration/lib/bench-table.py" "$work/bench.json" "${pinning:-not pinned, $(nproc) CPUs}" ${json:+"$json"}
