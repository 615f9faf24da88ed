# SPDX-License-Identifier: Apache-2.0
# A volume on CephFS, with an identity that may only its own directory: programs, rights, coherence
# between two services, a union over it, an MDS that is killed; and what a tenant may not name.
# image: small full
# seconds: 420
. "$LIB/case.sh"

# refused WHAT PATTERN COMMAND...: the container does not start, and the hooks' log says why
refused() {
	local what=$1 pattern=$2; shift 2
	refuses "$what" '' "$@"
	has "$what" "$(tail -n 1 /run/danaus/hook.log)" "$pattern"
}

here=$LIB/..
cluster=$CASE_DIR/ceph
case_cleanup() {
	"$here/ceph-dev-down.sh" "$cluster"
	! mountpoint -q /etc/danaus/danaus.json || umount /etc/danaus/danaus.json
}
conf=$("$here/ceph-dev-up.sh" "$cluster") || { [ $? = 77 ] && skip "the ceph programs are not installed"; false; }
export CEPH_CONF=$conf
for t in a b; do ceph fs authorize cephfs "client.$t" "/tenants/$t" rw > "$CASE_DIR/$t.keyring" 2> /dev/null; done
jq --arg c "$conf" --arg d "$CASE_DIR" '.ceph = {
	"root": {"conf": $c, "keyring": ($d + "/ceph/keyring"), "id": "admin", "allow": ["prepare"]},
	"a": {"conf": $c, "keyring": ($d + "/a.keyring"), "id": "a", "allow": ["*"], "paths": ["/tenants/a"]},
	"b": {"conf": $c, "keyring": ($d + "/b.keyring"), "id": "b", "allow": ["*"], "paths": ["/tenants"]},
	"other": {"conf": $c, "keyring": ($d + "/b.keyring"), "id": "b", "allow": ["nobody"]},
	"wrong": {"conf": $c, "keyring": ($d + "/b.keyring"), "id": "a", "allow": ["*"]}}' \
	/etc/danaus/danaus.json > "$CASE_DIR/json"
mount --bind "$CASE_DIR/json" /etc/danaus/danaus.json
on() { # PATH ID: the annotation
	echo "danaus.mount=/data=ceph:$1;id=$2"
}
run --annotation danaus.pool=prepare --annotation "$(on / root)" $IMAGE_SMALL \
	sh -c 'mkdir -p /data/tenants/a/base/d /data/tenants/a/top /data/tenants/b; echo below > /data/tenants/a/base/f; chmod 777 /data/tenants/a'

a=$(on /tenants/a a)
for i in $IMAGE_SMALL $IMAGE_FULL; do
	out=$(run --annotation "$a" --user 1000:1000 "$i" sh -ec 'cd /data; echo hello > f; cat f; mkdir d; mv f d/g; ln d/g h
		cat h; rm h; ls d; stat -c "%u:%g %h" d/g; rm -r d; ls' | tr '\n' ' ')
	eq "files, ${i##*-}" "$out" "hello hello g 1000:1000 1 base top "
done
refuses "another user" 'denied' run --annotation "$a" --user 1000:1000 $IMAGE_SMALL sh -c 'echo x > /data/base/f'
prints "sqlite" '^whole$' run --annotation "$a" -v "$here/guest/sqlite.py:/sqlite.py:ro" $IMAGE_FULL python3 /sqlite.py /data 5
prints "git" '^clean$' run -i --annotation "$a" $IMAGE_FULL bash -euo pipefail -s <<'G'
cd /data; export HOME=/tmp; git config --global user.email a@b; git config --global user.name n
mkdir src; cp -a /usr/include/linux/*.h src; cd src; git init -q .; git add .; git commit -qm one
echo x >> fs.h; git commit -qam two; git gc -q; git fsck --strict --no-progress
[ -z "$(git status --porcelain)" ] && echo clean; cd ..; rm -rf src
G

# two services, as on two hosts
up one --annotation "$a" $IMAGE_FULL sleep 1000
up two --annotation "$a" $IMAGE_FULL sleep 1000
pod exec one sh -c 'echo 1 > /data/shared'
eq "what one wrote" "$(pod exec two cat /data/shared)" 1
pod exec two sh -c 'echo 2 >> /data/shared; mv /data/shared /data/moved'
until_true "the new name" 10 pod exec one test -e /data/moved
eq "what two wrote" "$(pod exec one cat /data/moved | tr '\n' ' ')" "1 2 "
pod exec -d one flock /data/moved sleep 1000
until_true "a lock of the other host holds" 20 sh -c "! podman exec two flock -n /data/moved true"
down one
until_true "and ends with it" 20 podman exec two flock -n /data/moved true

# the MDS is killed while a program works: it goes on, and nothing synced is lost
pod exec -d two bash -c 'for i in $(seq 2000); do echo $i > /data/n.new && sync /data/n.new && mv /data/n.new /data/n && echo $i >> /data/log; sleep 0.02; done'
until_true "it works" 20 podman exec two test -s /data/log
kill -9 "$(cat "$cluster/run/mds.a.pid")"; sleep 1
ceph-mds -i a -c "$conf" > /dev/null
was=$(pod exec two sh -c 'tail -n 1 /data/log')
until_true "it goes on" 60 sh -c "[ \$(podman exec two tail -n 1 /data/log) -gt $was ]"
down two
out=$(run --annotation "$a" $IMAGE_FULL sh -c 'cat /data/n; tail -n 1 /data/log')
at_least "the last number" "$(head -n 1 <<<"$out")" "$(tail -n 1 <<<"$out")"

# a union over it
un="danaus.mount=/data=union:[ceph:/tenants/a/top;rw][ceph:/tenants/a/base;ro];id=a"
out=$(run --annotation "$un" $IMAGE_FULL bash -ec 'cd /data; cat f; echo over >> f; rmdir d; mkdir d; touch d/x; mv d e; cat f; ls' | tr '\n' ' ')
eq "union" "$out" "below below over e f "
out=$(run --annotation "$un" $IMAGE_SMALL sh -c 'cd /data; cat f; ls' | tr '\n' ' ')
eq "union, again" "$out" "below over e f "
eq "the base" "$(run --annotation "$a" $IMAGE_SMALL cat /data/base/f)" below

refused "a directory above the granted one" 'may not mount' run --annotation "$(on /tenants a)" $IMAGE_SMALL true
refused "a way around" '' run --annotation "$(on /tenants/a/../b a)" $IMAGE_SMALL true
refused "what the key does not allow" 'may not mount' run --annotation "$(on /tenants/a b)" $IMAGE_SMALL true
refused "an identity of others" '' run --annotation "$(on /tenants/b other)" $IMAGE_SMALL true
refused "an identity that there is not" '' run --annotation "$(on /tenants/a none)" $IMAGE_SMALL true
refused "a wrong key" 'may not mount' run --annotation "$(on /tenants/a wrong)" $IMAGE_SMALL true
refused "a directory that there is not" 'no directory' run --annotation "$(on /tenants/a/none a)" $IMAGE_SMALL true
"$here/ceph-dev-down.sh" "$cluster"
refused "a cluster that is down" 'did not answer' run --annotation "$a;timeout=3" $IMAGE_SMALL true
