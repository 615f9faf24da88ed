# SPDX-License-Identifier: Apache-2.0
# A cluster that fails under a running program, and mistakes at the start: every wait ends, what was
# synced is there, and no byte is wrong.
# image: full small
# seconds: 900
. "$LIB/case.sh"
. "$LIB/ceph.sh"
export DANAUS_CEPH_STORE=bluestore # an OSD that is killed keeps what it has synced
ceph_start
ceph_dirs /tenants/a/w /tenants/a/m
pause=10; [ "$DANAUS_NIGHTLY" = 0 ] || pause=60

writer=w
acks() { pod logs $writer 2> /dev/null | grep -c "^ack ${1:-}" || true; }
more() { [ "$(acks)" -ge "$1" ]; }
goes_on() { # WHAT: the writer is acknowledged more, in bounded time
	local n; n=$(($(acks) + 30))
	until_true "it goes on: $1" 180 more "$n"
	say "$1: goes on; errors so far: $(pod logs $writer 2> /dev/null | grep '^error' | sort | uniq -c | tr '\n' ';')"
}
errors() { pod logs $writer 2> /dev/null | grep -c '^error' || true; }
ends() { # it has stopped, and what it was told is there is there
	pod exec $writer touch /tmp/stop
	until_true "its end" 60 sh -c "podman logs $writer 2> /dev/null | grep -qx stopped"
	pod logs $writer > "$CASE_DIR/acks" 2> /dev/null
	down $writer
	eq "errors other than EIO" "$(grep '^error' "$CASE_DIR/acks" | grep -vc ' EIO$' || true)" 0
	prints "what was synced" 'all there$' on_ceph ceph:/tenants/a/$writer -i -v "$LIB/../guest/faults.py:/faults.py:ro" \
		$IMAGE_FULL python3 /faults.py check /data < "$CASE_DIR/acks"
}

up w --annotation 'danaus.mount=/data=ceph:/tenants/a/w;id=tenant-a;timeout=120' -v "$LIB/../guest/faults.py:/faults.py:ro" \
	$IMAGE_FULL python3 /faults.py write /data
goes_on "before"
for i in 1 2 3; do
	ceph_kill mds.a; ceph_again mds.a
	goes_on "MDS killed, $i"
done
ceph_kill osd.0; ceph_again osd.0
goes_on "OSD killed"
ceph_signal STOP; sleep "$pause"; ceph_signal CONT
goes_on "all paused for $pause s"
eq "errors of what is only late" "$(errors)" 0
pod exec w python3 /faults.py hold /data > "$CASE_DIR/held" &
until_true "a file with bytes that are not synced" 30 grep -q holds "$CASE_DIR/held"
ceph tell mds.0 client evict > /dev/null 2>&1
goes_on "blocklisted"
until_true "the service has seen it" 60 sh -c "grep -q 'mounted it anew' /run/danaus/pools/*/log"
pod exec w touch /tmp/cut-off
wait $!
eq "what its holder was told" "$(tail -n 1 "$CASE_DIR/held")" "EIO ok ok kept"
ends

# An MDS that does not answer: each door's calls end, and go on in the same container when it does. What
# they ask for, they ask for the first time.
writer=m
up m --annotation 'danaus.mount=/data=ceph:/tenants/a/m;id=tenant-a;timeout=5' -v "$LIB/../guest/faults.py:/faults.py:ro" \
	-v /bin/busybox:/busybox:ro $IMAGE_FULL sh -c 'mkdir /data/d && exec python3 /faults.py write /data'
told() { [ "$(errors)" -gt "$before" ]; }
at_doors() { # PATTERN: what each door's program is told
	has "shm" "$(pod exec m timeout 120 mkdir /data/d/shm$n 2>&1)" "$1"
	has "notify" "$(pod exec m timeout 120 /busybox mkdir /data/d/notify$n 2>&1)" "$1"
	has "fuse" "$(timeout 120 mkdir "$kernel/d/fuse$n" 2>&1)" "$1"
	n=$((n + 1))
}
n=0
kernel=/proc/$(pod inspect -f '{{.State.Pid}}' m)/root/data
goes_on "before"
at_doors '^$'
before=$(errors)
ceph_signal STOP mds.a
# at once, so that each waits
pod exec m timeout 120 mkdir /data/d/first-shm > "$CASE_DIR/first-shm" 2>&1 || true &
pod exec m timeout 120 /busybox mkdir /data/d/first-notify > "$CASE_DIR/first-notify" 2>&1 || true &
timeout 120 mkdir "$kernel/d/first-fuse" > "$CASE_DIR/first-fuse" 2>&1 || true &
until_true "the writer is told" 120 told
wait
for i in shm notify fuse; do has "the first at $i" "$(cat "$CASE_DIR/first-$i")" 'Input/output error'; done
at_doors 'Input/output error'
ceph_signal CONT mds.a
goes_on "the MDS answers again"
at_doors '^$'
hasnt "the same client" "$(cat /run/danaus/pools/*/log)" 'mounted it anew'

# A client whose MDS has forgotten it, and does not say so
before=$(errors)
ceph tell mds.0 config set mds_session_blocklist_on_evict false > /dev/null 2>&1
ceph tell mds.0 client evict > /dev/null 2>&1
until_true "the writer is told" 120 told
goes_on "evicted and not blocklisted"
at_doors '^$'
has "another client" "$(cat /run/danaus/pools/*/log)" 'mounted it anew'
ceph tell mds.0 config set mds_session_blocklist_on_evict true > /dev/null 2>&1
ends

# Room that ends: the quota of a directory, of the pool. The writes stop with the right error, what was
# synced before is whole, and writing goes on when there is room.
fill() { # CONTAINER DIR BYTES-AT-MOST: how it ended, and how many whole files there are
	pod exec "$1" bash -c 'mkdir -p '"$2"'; cd '"$2"'; n=0
		while [ $n -lt '$(($3 >> 20))' ]; do
			head -c 1048576 /dev/zero | tr "\0" "$((n % 10))" > f$n && sync f$n || break; n=$((n + 1))
		done 2>&1; for i in $(seq 0 $((n - 1))); do
			[ "$(tr -d "$((i % 10))" < f$i | wc -c) $(stat -c %s f$i)" = "0 1048576" ] || echo "f$i is wrong"
		done; echo "$n whole"'
}
up room --annotation 'danaus.mount=/data=ceph:/tenants/a;id=tenant-a' $IMAGE_FULL sleep 1000
pod exec room sh -c 'mkdir /data/q && setfattr -n ceph.quota.max_bytes -v 5242880 /data/q'
out=$(fill room /data/q $((20 << 20)))
has "a directory's quota" "$out" 'Disk quota exceeded'
hasnt "a directory's quota: bytes" "$out" 'is wrong'
pod exec room setfattr -n ceph.quota.max_bytes -v 0 /data/q
has "without the quota" "$(pod exec room sh -c 'echo fine > /data/q/after && sync /data/q/after && cat /data/q/after')" '^fine$'

full() { ceph osd pool ls detail --format json 2> /dev/null | grep -q full_quota; }
ceph osd pool set-quota data max_bytes 1048576 > /dev/null 2>&1
until_true "the pool is full" 90 full
out=$(fill room /data/p $((40 << 20)))
has "a full pool" "$out" 'No space left on device'
hasnt "a full pool: bytes" "$out" 'is wrong'
ceph osd pool set-quota data max_bytes 0 > /dev/null 2>&1
until_true "the pool has room" 90 sh -c "! ceph osd pool ls detail --format json 2> /dev/null | grep -q full_quota"
writes() { pod exec room sh -c 'echo fine > /data/after && sync /data/after && grep -qx fine /data/after'; }
until_true "writing goes on" 60 writes
down room

# A service that is killed with its container: what it held is free at once, and not only after the
# MDS's session_timeout, which is longer than a call waits here
until_true "the services' end" 20 sh -c '! pgrep -x danausd'
up dead --annotation 'danaus.mount=/data=ceph:/tenants/a;id=tenant-a' $IMAGE_SMALL sleep 1000
pod exec dead sh -c 'echo old > /data/held'
kill -KILL "$(pgrep -x danausd)"
down dead
eq "what a dead host held" "$(on_ceph ceph:/tenants/a $IMAGE_SMALL \
	sh -c 'echo new > /data/beside && echo new > /data/held && cat /data/held')" new

# Mistakes at the start: an error that says which, soon.
mistake() { # WHAT PATTERN SOURCE
	local begin=$SECONDS
	if run --annotation "danaus.mount=/data=$3" $IMAGE_SMALL true > "$CASE_DIR/out" 2>&1; then fail "$1: it started"; return; fi
	has "$1: the log" "$(cat /run/danaus/hook.log)" "$2"
	say "$1: $((SECONDS - begin)) s: $(grep -Eo "$2.*" /run/danaus/hook.log | tail -n 1)"
	at_least "$1: within the time" 60 $((SECONDS - begin))
	until_true "its end" 20 sh -c '! pgrep -x danausd'
	rm -rf /run/danaus/pools/*
	: > /run/danaus/hook.log
}
mistake "a wrong key" 'client.admin may not mount' 'ceph:/tenants/a;id=wrong-key;timeout=5'
mistake "a client that the cluster does not know" 'client.stranger may not mount' 'ceph:/tenants/a;id=stranger;timeout=5'
mistake "a file system that is not there" 'no file system nofs' 'ceph:nofs:/tenants/a;id=tenant-a;timeout=5'
mistake "a directory that is not there" 'no directory /tenants/a/missing' 'ceph:/tenants/a/missing;id=tenant-a;timeout=5'
ceph_signal STOP
mistake "a cluster that does not answer" 'did not answer within 3 s' 'ceph:/tenants/a;id=tenant-a;timeout=3'
ceph_signal CONT
