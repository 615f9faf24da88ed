#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A one-node Ceph cluster on loopback, for tests: mon, mgr, osd, mds, one CephFS, cephx. The osd is in
# memory; DANAUS_CEPH_STORE=bluestore puts it into a sparse file, which a killed one finds again. Lines in
# DANAUS_CEPH_CONF come at the end of [global].
#   ceph-dev-up.sh DIR      starts it in DIR (new or stopped) and prints DIR/ceph.conf
# Exits with 77 and the reason when the ceph programs are not installed. Ports are free ones; nothing
# outside of DIR is touched. ceph-dev-down.sh DIR stops it.
set -euo pipefail
D=$(realpath -m "${1:?usage: ceph-dev-up.sh DIR}")
for p in ceph-mon ceph-mgr ceph-osd ceph-mds ceph ceph-authtool monmaptool; do
	command -v $p >/dev/null || {
		echo "skipped: $p is not installed (packages ceph-mon ceph-mgr ceph-osd ceph-mds ceph-common)" >&2
		exit 77
	}
done
mkdir -p "$D"/{mon,mgr,osd,mds,run,log}
cd "$D"
export CEPH_CONF=$D/ceph.conf CEPH_ARGS=

start() { # the daemons put themselves into the background
	ceph-mon -i a -c ceph.conf
	ceph-mgr -i x -c ceph.conf
}
wait_for() { # SECONDS COMMAND...
	local end=$((SECONDS + $1)); shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { echo "ceph-dev-up.sh: \"$*\" does not come true" >&2; ceph -s >&2 || true; return 1; }
		sleep 0.2
	done
}
active() { ceph mds stat 2>/dev/null | grep -q up:active; }

if [ -e fsid ]; then
	start
	ceph-osd -i 0 -c ceph.conf 2>/dev/null
	ceph-mds -i a -c ceph.conf >/dev/null
	wait_for 60 active
	echo "$D/ceph.conf"
	exit 0
fi

# Two ports that nobody listens at, below those that the kernel hands out by itself
ports=()
for p in $(shuf -i 21000-29000 -n 50); do
	(exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || ports+=("$p")
	[ ${#ports[@]} -lt 2 ] || break
done
MON="[v2:127.0.0.1:${ports[0]},v1:127.0.0.1:${ports[1]}]"
FSID=$(cat /proc/sys/kernel/random/uuid)
cat > ceph.conf <<C
[global]
fsid = $FSID
mon host = $MON
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = $D/keyring
run dir = $D/run
admin socket = $D/run/\$name.\$pid.asok
log file = $D/log/\$name.log
pid file = $D/run/\$name.pid
mon data = $D/mon
mgr data = $D/mgr
osd data = $D/osd
mds data = $D/mds
osd objectstore = ${DANAUS_CEPH_STORE:-memstore}
bluestore block size = 4294967296
memstore device bytes = ${DANAUS_CEPH_BYTES:-4294967296}
osd memory target = 1073741824
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd heartbeat grace = 600
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail crit = 1
mon data avail warn = 1
mgr initial modules =
${DANAUS_CEPH_CONF:-}
C
q() { "$@" >/dev/null 2>&1 || { echo "ceph-dev-up.sh: failed: $*" >&2; "$@" >&2; }; }
q ceph-authtool --create-keyring keyring --gen-key -n mon. --cap mon 'allow *'
q ceph-authtool keyring --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mds 'allow *' --cap mgr 'allow *'
q ceph-authtool keyring --gen-key -n mgr.x --cap mon 'allow profile mgr' --cap osd 'allow *' --cap mds 'allow *'
q ceph-authtool keyring --gen-key -n osd.0 --cap mon 'allow profile osd' --cap mgr 'allow profile osd' --cap osd 'allow *'
q ceph-authtool keyring --gen-key -n mds.a --cap mon 'allow profile mds' --cap mgr 'allow profile mds' --cap osd 'allow rwx' --cap mds 'allow'
q monmaptool --create --fsid "$FSID" --addv a "$MON" monmap --clobber
q ceph-mon --mkfs -i a --monmap monmap --keyring keyring -c ceph.conf
start
wait_for 30 ceph -s --connect-timeout 5
U=$(cat /proc/sys/kernel/random/uuid)
q ceph osd new "$U" 0
ceph-osd -i 0 --mkfs --osd-uuid "$U" -c ceph.conf 2>/dev/null
ceph-osd -i 0 -c ceph.conf 2>/dev/null
q ceph osd pool create meta 8
q ceph osd pool create data 8
q ceph fs new cephfs meta data
ceph-mds -i a -c ceph.conf >/dev/null
wait_for 60 active
echo "$FSID" > fsid
echo "$D/ceph.conf"
