#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh clone to a container on Danaus: installs packages, builds, runs a container with a
# volume, prints its output and which door served what. Touches nothing of the machine but its
# packages, and leaves nothing else behind. As root, on Debian 12; a few minutes.
set -euo pipefail
[ $# = 0 ] || { sed -n '2,/^set/{/^# SPDX/d;s/^# //p}' "$0"; echo "usage: sudo integration/demo.sh"; exit 2; }
SRC=$(cd "$(dirname "$0")/.." && pwd)
. "$SRC/integration/lib/build.sh"
[ "$(id -u)" = 0 ] || { echo "integration/demo.sh: needs root: sudo integration/demo.sh" >&2; exit 1; }
DANAUS_WORK=$(mktemp -d /var/tmp/danaus-demo.XXXXXX)
export DANAUS_WORK
trap 'rm -rf --one-file-system "$DANAUS_WORK"' EXIT
mkdir "$DANAUS_WORK/logs"

step() { # TEXT COMMAND...
	local start=$SECONDS
	echo "== $1"; shift
	"$@" > "$DANAUS_WORK/logs/step" 2>&1 || { tail -n 40 "$DANAUS_WORK/logs/step"; echo "demo: that failed" >&2; exit 1; }
	echo "   $((SECONDS - start)) s"
}
step "packages" packages_install
step "build" build_default -Dtests=disabled
step "install, into a private copy of /usr/local and /etc" install_private
step "a container image, from this machine's files" image full
sandbox demo bash "$SRC/integration/lib/demo-inside.sh"
