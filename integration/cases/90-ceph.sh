# SPDX-License-Identifier: Apache-2.0
# A volume on CephFS: real programs, dynamic and static, through libcephfs in the tenant's service; a
# tenant that names what is not granted to it is refused.
# image: full small
# seconds: 240
. "$LIB/case.sh"
. "$LIB/ceph.sh"
ceph_start
ceph_dirs /tenants/a /tenants/b

eq "dynamic" "$(on_ceph ceph:/tenants/a $IMAGE_FULL bash -c 'echo dyn > /data/f; cat /data/f; stat -c %s /data/f' | tr '\n' ' ')" "dyn 4 "
eq "static, in another service" "$(on_ceph ceph:/tenants/a $IMAGE_SMALL sh -c 'cat /data/f; echo st > /data/g; cat /data/g' | tr '\n' ' ')" "dyn st "
prints "bash, coreutils, tar" '^the same$' on_ceph ceph:/tenants/a --env CHANGES_LATE=yes -v "$LIB/../guest/shell.sh:/shell.sh:ro" $IMAGE_FULL bash /shell.sh /data
prints "git" '^fine$' on_ceph ceph:/tenants/a -i $IMAGE_FULL bash -euo pipefail -s <<'G'
cd /data; export HOME=/tmp; git config --global user.email a@b; git config --global user.name n
git init -q r; cd r; for i in $(seq 30); do echo $i > f$i; done; git add .; git commit -qm one
git clone -q /data/r /data/c; git gc -q; git fsck --strict --no-progress; cd ..; rm -rf r c; echo fine
G

# A named file system, snapshots, a quota as the size
up named --annotation 'danaus.mount=/data=ceph:cephfs:/tenants/a;id=tenant-a' $IMAGE_FULL sleep 1000
has "danausctl list" "$(danausctl list)" '/data = ceph:cephfs:/tenants/a'
out=$(pod exec named sh -c 'cd /data; mkdir .snap/s; echo new > g; cat .snap/s/g g; echo x 2>&1 > .snap/s/g; rm .snap/s/g 2>&1
	mkdir q; setfattr -n ceph.quota.max_bytes -v 12582912 q; echo st > g; rmdir .snap/s; ls .snap | wc -l' 2>&1 || true)
eq "what is read of a snapshot" "$(head -n 2 <<<"$out" | tr '\n' ' ')" "st new "
eq "what may be done to one" "$(grep -c 'Read-only file system' <<<"$out")" 2
eq "snapshots that are left" "$(tail -n 1 <<<"$out")" 0
eq "a directory of one file system under a quota" "$(on_ceph ceph:/tenants/a/q $IMAGE_FULL df --output=size -B1 /data | tail -n 1 | tr -d ' ')" 12582912
down named

refused() { # WHAT PATTERN ANNOTATION...
	local what=$1 pattern=$2 out; shift 2
	if out=$(run "$@" $IMAGE_SMALL true 2>&1); then fail "$what: it started"; return; fi
	has "$what: the log" "$(cat /run/danaus/hook.log)" "$pattern"
}
refused "another tenant's identity" 'tenant-b' --annotation 'danaus.mount=/data=ceph:/tenants/b;id=tenant-b'
refused "another tenant's path" '/tenants/b' --annotation 'danaus.mount=/data=ceph:/tenants/b;id=tenant-a'
refused "a parent of its root" '/tenants' --annotation 'danaus.mount=/data=ceph:/tenants;id=tenant-a'
refused "an identity that is not there" 'nobody' --annotation 'danaus.mount=/data=ceph:/tenants/a;id=nobody'
refused "a directory that is not there" 'missing' --annotation 'danaus.mount=/data=ceph:/tenants/a/missing;id=tenant-a'
# the directory with the log of a service that could not start may stay, until the next one sweeps
until_true "its end" 20 sh -c '! pgrep -x danausd'
rm -rf /run/danaus/pools/*
eq "and the next one starts" "$(on_ceph ceph:/tenants/a $IMAGE_SMALL cat /data/g)" st

# The libservice's unit tests, one of which evicts every client: they have the cluster for themselves.
until_true "the end of the services" 20 sh -c '! pgrep -x danausd'
for unit in test_libservices_ceph_hosts test_libservices_ceph test_libservices_ceph_faults; do
	if ! DANAUS_CEPH_CONF=$CEPH_CONF timeout 120 "$DANAUS_WORK/build/tests/$unit" > "$CASE_DIR/unit.log" 2>&1; then
		tail -n 60 "$CASE_DIR/unit.log"
		fail "the unit test $unit"
	fi
	hasnt "$unit's set-up" "$(cat "$CASE_DIR/unit.log")" 'FAILED'
done
