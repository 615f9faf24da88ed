# SPDX-License-Identifier: Apache-2.0
# A Ceph cluster of the case's own, on its loopback, and what danaus.json grants, for the cases from 90 on.
ceph_start() {
	local conf id code=0
	"$LIB/../ceph-dev-up.sh" "$CASE_DIR/ceph" > "$CASE_DIR/ceph.log" 2>&1 || code=$?
	[ "$code" != 77 ] || skip "$(tail -n 1 "$CASE_DIR/ceph.log")"
	[ "$code" = 0 ] || { tail -n 30 "$CASE_DIR/ceph.log"; fail "the cluster did not start"; }
	case_cleanup() {
		ceph_signal CONT 2> /dev/null
		mountpoint -q /etc/danaus/danaus.json && umount /etc/danaus/danaus.json
		# the services unmount first: a client without its cluster waits
		for _ in $(seq 300); do pgrep -x danausd > /dev/null || break; sleep 0.1; done
		"$LIB/../ceph-dev-down.sh" "$CASE_DIR/ceph" > /dev/null 2>&1
		rm -rf "$CASE_DIR/ceph"
	}
	conf=$CASE_DIR/ceph/ceph.conf
	export CEPH_CONF=$conf
	cat > "$CASE_DIR/danaus.json" <<-J
		{"timeout_s": 30, "ceph": {
		  "tenant-a": {"conf": "$conf", "keyring": "$CASE_DIR/ceph/keyring", "id": "admin",
		               "allow": ["*"], "paths": ["/tenants/a", "/base"]},
		  "tenant-b": {"conf": "$conf", "keyring": "$CASE_DIR/ceph/keyring", "id": "admin",
		               "allow": ["pool-b"], "paths": ["/tenants/b"]},
		  "wrong-key": {"conf": "$conf", "keyring": "$CASE_DIR/wrong.keyring", "id": "admin",
		                "allow": ["*"], "paths": ["/tenants/a"]},
		  "stranger": {"conf": "$conf", "keyring": "$CASE_DIR/wrong.keyring", "id": "stranger",
		               "allow": ["*"], "paths": ["/tenants/a"]}}}
	J
	for id in admin stranger; do
		ceph-authtool "$CASE_DIR/wrong.keyring" --create-keyring --gen-key -n client.$id
		cat "$CASE_DIR/wrong.keyring"
	done > "$CASE_DIR/wrong" 2> /dev/null
	grep -v '^creating' "$CASE_DIR/wrong" > "$CASE_DIR/wrong.keyring"
	mount --bind "$CASE_DIR/danaus.json" /etc/danaus/danaus.json
}
# ceph_dirs DIR...: made with libcephfs's python binding, or ceph-fuse, whichever is there
ceph_dirs() {
	python3 - "$CEPH_CONF" "$@" <<-'P'
		import ctypes, sys
		lib = ctypes.CDLL("libcephfs.so.2")
		mount = ctypes.c_void_p()
		assert lib.ceph_create(ctypes.byref(mount), b"admin") == 0
		assert lib.ceph_conf_read_file(mount, sys.argv[1].encode()) == 0
		assert lib.ceph_mount(mount, b"/") == 0
		for d in sys.argv[2:]:
		    r = lib.ceph_mkdirs(mount, d.encode(), 0o755)
		    assert r in (0, -17), (d, r)
		lib.ceph_unmount(mount)
		lib.ceph_shutdown(mount)
	P
}
on_ceph() { run --annotation "danaus.mount=/data=$1;id=tenant-a" "${@:2}"; }
ceph_programs() { # SOURCE
	STRESSORS="access chmod copy-file dentry fcntl filename hdd iomix lockf rename seek xattr"
	SUITES="test_os test_posix test_shutil test_tempfile test_fcntl test_mmap"
	[ "$DANAUS_NIGHTLY" = 0 ] || STRESSORS=$ALL_STRESSORS SUITES+=" test_io test_subprocess"
	NOT_PYTHON=/dev/null NOT_STRESS=/dev/null
	program_all --annotation "danaus.mount=/data=$1;id=tenant-a"
}
# Daemons are mon.a, mgr.x, osd.0, mds.a; no name: all of them
ceph_pid() { cat "$CASE_DIR/ceph/run/$1.pid"; }
ceph_signal() { # SIGNAL [DAEMON]
	local d
	for d in ${2:-mon.a mgr.x osd.0 mds.a}; do kill "-$1" "$(ceph_pid "$d")"; done
}
ceph_kill() { # DAEMON
	local pid; pid=$(ceph_pid "$1")
	kill -KILL "$pid"
	until_true "the end of $1" 20 sh -c "! [ -e /proc/$pid ]"
}
ceph_again() { # DAEMON
	(cd "$CASE_DIR/ceph" && "ceph-${1%.*}" -i "${1#*.}" -c ceph.conf) > /dev/null 2>&1
}
