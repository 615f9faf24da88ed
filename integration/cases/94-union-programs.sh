# SPDX-License-Identifier: Apache-2.0
# Real programs on a union of two CephFS directories, the lower one with files in it.
# image: full small
# seconds: 400
. "$LIB/case.sh"
. "$LIB/ceph.sh"
. "$LIB/programs.sh"
ceph_start
ceph_dirs /tenants/a /base
run --annotation 'danaus.mount=/data=ceph:/base;id=tenant-a' $IMAGE_FULL \
	sh -c 'cp -a /usr/include/linux /data/linux; cp -a /data/linux/netfilter /data/changed'
prints "changes of the lower files" '^alike$' on_ceph 'union:[ceph:/tenants/a;rw][ceph:/base;ro]' -i $IMAGE_FULL bash -euo pipefail -s <<'G'
work() {
	sed -i 's/define/DEFINE/' xt_[a-m]*.h; for f in xt_[n-z]*.h; do echo more >> "$f"; done
	rm nf_*.h; mkdir nf_log.h; echo new > nf_log.h/file; mkdir d; mv nfnetlink*.h d; mv d e
	chmod 600 ipset/*.h; chown 1000:1001 ipset; ln x_tables.h hard; echo by-the-link >> hard; rm -r ipset
	touch -d '2020-02-02 02:02:02Z' xt_time.h; truncate -s 100 xt_u32.h; ln -sf xt_u32.h xt_set.h
}
tell() { find . -type d -printf '%P %y %m %U:%G\n' -o -printf '%P %y %m %U:%G %s %l\n' | LC_ALL=C sort; }
cp -a /data/changed /tmp/changed; (cd /tmp/changed; work; tell > /tmp/wanted)
cd /data/changed; work; tell | diff /tmp/wanted -
diff -r --no-dereference /tmp/changed .; [ "$(stat -c %Y xt_time.h)" = 1580608922 ]
echo alike
G
GIT_FILES=/data/linux ceph_programs 'union:[ceph:/tenants/a;rw][ceph:/base;ro]'
