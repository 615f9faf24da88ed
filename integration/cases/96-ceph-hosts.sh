# SPDX-License-Identifier: Apache-2.0
# Two containers with a service each on one CephFS directory, as two hosts have it: data, locks,
# appends and names of one as the other sees them.
# image: full
# seconds: 240
. "$LIB/case.sh"
. "$LIB/ceph.sh"
ceph_start
ceph_dirs /tenants/a
prints "two services" '^they agree$' timeout 150 python3 "$LIB/../guest/hosts.py" drive \
	podman --runtime "$RUNTIME" run --rm -i --cgroup-parent "$CASE_CGROUP" --annotation danaus=on \
	--annotation 'danaus.mount=/data=ceph:/tenants/a;id=tenant-a' -v "$LIB/../guest/hosts.py:/hosts.py:ro" \
	$IMAGE_FULL python3 /hosts.py agent /data
