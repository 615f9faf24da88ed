# SPDX-License-Identifier: Apache-2.0
# Unions: a writable branch on CephFS over a read-only one on the host, and two of the host whose
# branches the kernel's overlayfs mounts as well.
# image: full small
# seconds: 240
. "$LIB/case.sh"
. "$LIB/ceph.sh"
upper=$(new_dir upper) lower=$(new_dir lower)
mkdir "$lower/d"; echo base > "$lower/d/f"; echo gone > "$lower/gone"; chmod 640 "$lower/d/f"; chown 1000:1001 "$lower/d/f"
union="union:[local:$upper;rw][local:$lower;ro]"
guest='cat /data/d/f; echo more >> /data/d/f; cat /data/d/f | wc -l; rm /data/gone; ls /data; echo new > /data/new; mv /data/new /data/d/new; ls /data/d; stat -c "%a %u %g" /data/d/f'
eq "a union" "$(run --annotation "danaus.mount=/data=$union" $IMAGE_FULL sh -c "$guest" | tr '\n' ' ')" "base 2 d f new 640 1000 1001 "
eq "the lower branch" "$(cat "$lower/d/f" "$lower/gone" | tr '\n' ' ')" "base gone "
mkdir "$CASE_DIR/merged" "$CASE_DIR/work"
mount -t overlay overlay -o "lowerdir=$upper:$lower" "$CASE_DIR/merged"
seen=$(cat "$CASE_DIR/merged/d/f"; ls "$CASE_DIR/merged" "$CASE_DIR/merged/d")
umount "$CASE_DIR/merged"
hasnt "overlayfs sees the whiteout" "$seen" gone
has "overlayfs sees the copy" "$seen" '^more$'
prints "bash, coreutils, tar on it" '^the same$' run --annotation "danaus.mount=/data=$union" \
	-v "$LIB/../guest/shell.sh:/shell.sh:ro" $IMAGE_FULL bash /shell.sh /data

# A branch disappears under a union that is in use: the other one's files are served, what was in it is
# gone or an error, and nothing else is shown in its place.
own=$(new_dir own) low=$(new_dir low) mounted=$(new_dir mounted)
echo own > "$own/own"
mkdir "$low/d"; echo low > "$low/low"; echo open > "$low/d/open"; seq 100 > "$low/d/other"
mount -t tmpfs tmpfs "$mounted"; echo mounted > "$mounted/mounted"
still_served() { # CONTAINER: what the writable branch has, and new files beside it
	eq "$1: its own" "$(timeout 60 podman exec "$1" cat /data/own)" own
	eq "$1: new files" "$(timeout 60 podman exec "$1" sh -c 'cd /data && echo n > n && mv n m && mkdir e && mv m e/m && cat e/m && rm -r e')" n
}
union="union:[local:$own;rw][local:$low;ro][local:$mounted;ro]"
up branches --annotation "danaus.mount=/data=$union" $IMAGE_FULL \
	sh -c 'exec 3< /data/d/open; echo opened; until [ -e /tmp/go ]; do sleep 0.1; done; cat <&3; sleep 1000'
has "danausctl list: the stack" "$(danausctl list)" "/data = union:\[local:$own,rw\]\[local:$low,ro\]\[local:$mounted,ro\]\$"
until_true "a file of the branch is open" 60 sh -c "podman logs branches | grep -qx opened"
rm -r "$low"
umount -l "$mounted"
still_served branches
refuses "a removed branch's file" 'No such file' pod exec branches cat /data/low
refuses "another" 'No such file' pod exec branches cat /data/d/other
out=$(timeout 60 podman exec branches cat /data/mounted 2>&1 || true)
has "an unmounted branch's file" "$out" '^mounted$|: (No such file|Stale|Input/output)'
pod exec branches touch /tmp/go
until_true "a file that was open goes on" 60 sh -c "podman logs branches | grep -qx open"
has "the listing" "$(pod exec branches ls /data)" '^own$'
down branches

ceph_start
ceph_dirs /tenants/a/top
union="union:[ceph:/tenants/a/top;rw][local:$lower;ro]"
eq "over Ceph, static" "$(on_ceph "$union" $IMAGE_SMALL sh -c "$guest" | tr '\n' ' ')" "base 2 d f new 640 1000 1001 "
eq "again, dynamic" "$(on_ceph "$union" $IMAGE_FULL sh -c 'cat /data/d/f; ls /data' | tr '\n' ' ')" "base more d "
eq "the lower branch" "$(cat "$lower/d/f" "$lower/gone" | tr '\n' ' ')" "base gone "

# The same with a branch on the cluster: another client removes its directory; the cluster stops.
ceph_dirs /tenants/a/low/d /tenants/a/far
on_ceph ceph:/tenants/a $IMAGE_SMALL sh -c 'cd /data && echo low > low/low && echo more > low/d/more && echo far > far/far'
up branches --annotation "danaus.mount=/data=union:[local:$own;rw][ceph:/tenants/a/low;ro];id=tenant-a" $IMAGE_SMALL sleep 1000
eq "the branch" "$(pod exec branches cat /data/d/more)" more
on_ceph ceph:/tenants/a $IMAGE_SMALL rm -r /data/low
still_served branches
refuses "a removed directory's file" 'No such file|Stale|Input/output' timeout 60 podman exec branches cat /data/low
down branches
for image in $IMAGE_SMALL $IMAGE_FULL; do
	up branches --annotation "danaus.mount=/data=union:[local:$own;rw][ceph:/tenants/a/far;ro];id=tenant-a" $image sleep 1000
	pod exec branches cat /data/own > /dev/null
	ceph_signal STOP
	eq "the writable branch of a cluster that stopped" "$(timeout 60 podman exec branches sh -c 'echo more >> /data/own; cat /data/own' | tr '\n' ' ')" "own more "
	pod exec branches cat /data/far > "$CASE_DIR/far" 2>&1 &
	ceph_signal CONT
	wait $!
	eq "a file of the cluster, when it is back" "$(cat "$CASE_DIR/far")" far
	echo own > "$own/own"
	down branches
done
