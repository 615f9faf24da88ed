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

ceph_start
ceph_dirs /tenants/a/top
union="union:[ceph:/tenants/a/top;rw][local:$lower;ro]"
eq "over Ceph, static" "$(on_ceph "$union" $IMAGE_SMALL sh -c "$guest" | tr '\n' ' ')" "base 2 d f new 640 1000 1001 "
eq "again, dynamic" "$(on_ceph "$union" $IMAGE_FULL sh -c 'cat /data/d/f; ls /data' | tr '\n' ' ')" "base more d "
eq "the lower branch" "$(cat "$lower/d/f" "$lower/gone" | tr '\n' ' ')" "base gone "
