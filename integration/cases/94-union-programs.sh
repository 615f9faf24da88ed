# SPDX-License-Identifier: Apache-2.0
# Real programs on a union of two CephFS directories, the lower one with files in it.
# image: full small
# seconds: 400
. "$LIB/case.sh"
. "$LIB/ceph.sh"
. "$LIB/programs.sh"
ceph_start
ceph_dirs /tenants/a /base
run --annotation 'danaus.mount=/data=ceph:/base;id=tenant-a' $IMAGE_FULL cp -a /usr/include/linux /data/linux
GIT_FILES=/data/linux ceph_programs 'union:[ceph:/tenants/a;rw][ceph:/base;ro]'
