# SPDX-License-Identifier: Apache-2.0
# `bench.sh ceph`, inside the sandbox: a cluster, ceph-fuse and unionfs-fuse over it on the host, then
# bench-ceph.py's containers. usage: bench-ceph.sh SOURCES OUT.json
. "$LIB/case.sh"
. "$LIB/ceph.sh"
mkdir /dev/shm/ceph # the sandbox's own: no fsync on this machine's disk reaches the cluster
ln -s /dev/shm/ceph "$CASE_DIR/ceph"
# The osd's default is a list of what was written to an object, which it copies at each write
DANAUS_CEPH_CONF="memstore page set = true" ceph_start
for who in fuse unionfs ceph cache union; do ceph_dirs /tenants/a/$who /base; done
mkdir "$CASE_DIR"/{fuse,branch,unionfs}
gcc -O2 -Wall -pthread -o "$CASE_DIR/bench" "$1/bench.c"
gcc -O2 -Wall -pthread -o "$CASE_DIR/mix" "$1/mix.c"
mounted=()
bench_mount() { # DIRECTORY of the cluster, mount point
	ceph-fuse -c "$CEPH_CONF" -n client.admin --pid-file="$2.pid" -r "$1" "$2" > "$CASE_DIR/ceph-fuse.log" 2>&1
	mounted+=("$2")
}
fuse= unionfs=
if command -v ceph-fuse > /dev/null; then
	bench_mount /tenants/a/fuse "$CASE_DIR/fuse"
	fuse=$CASE_DIR/fuse
	if command -v unionfs > /dev/null; then
		bench_mount / "$CASE_DIR/branch"
		unionfs -o cow,allow_other "$CASE_DIR/branch/tenants/a/unionfs=RW:$CASE_DIR/branch/base=RO" "$CASE_DIR/unionfs"
		mounted+=("$CASE_DIR/unionfs")
		unionfs=$CASE_DIR/unionfs
	fi
fi
code=0
python3 "$LIB/bench-ceph.py" "$2" "$fuse" "$unionfs" || code=$?
for ((i = ${#mounted[@]} - 1; i >= 0; i--)); do umount "${mounted[i]}"; done
until_true "the end of ceph-fuse" 60 sh -c "! pgrep -x ceph-fuse" # before its cluster's
exit $code
