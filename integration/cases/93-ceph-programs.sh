# SPDX-License-Identifier: Apache-2.0
# Real programs on a CephFS directory: dynamic ones and a static busybox.
# image: full small
# seconds: 400
. "$LIB/case.sh"
. "$LIB/ceph.sh"
. "$LIB/programs.sh"
ceph_start
ceph_dirs /tenants/a
ceph_programs ceph:/tenants/a
