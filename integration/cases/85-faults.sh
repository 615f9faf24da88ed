# SPDX-License-Identifier: Apache-2.0
# Bad input: the container does not start, and the error names the thing, in the log always and on the
# terminal where the runtime shows it. A full disk is ENOSPC.
# image: small full
# seconds: 240
. "$LIB/case.sh"
data=$(new_dir data)

bad() { # WHAT PATTERN PODMAN-OPTIONS...: through the hooks, and through danaus-runtime
	local what=$1 pattern=$2 out log; shift 2
	: > /run/danaus/hook.log 2>/dev/null || true
	if out=$(run "$@" $image true 2>&1); then fail "$what: the container started"; return; fi
	log=$(cat /run/danaus/hook.log 2>/dev/null || true)
	has "$what, the log" "$log" "$pattern"
	: > /run/danaus/hook.log
	if out=$(RUNTIME=/usr/local/bin/danaus-runtime; pod --hooks-dir "$CASE_DIR/none" --runtime "$RUNTIME" run --rm \
		--cgroup-parent "$CASE_CGROUP" --annotation danaus=on "$@" $image true 2>&1); then
		fail "$what: the container started with danaus-runtime"; return
	fi
	has "$what, the terminal" "$out" "$pattern"
	has "$what, danaus-runtime's log" "$(cat /run/danaus/hook.log)" "$pattern"
}
image=$IMAGE_SMALL
mkdir "$CASE_DIR/none"
run -v "$data:/data" $IMAGE_SMALL true # it works when nothing is wrong
bad "unknown annotation" 'danaus\.bogus' --annotation danaus.bogus=1 -v "$data:/data"

for value in true On ''; do bad "danaus=$value" 'use "on" or "off"' --annotation "danaus=$value" -v "$data:/data"; done
eq "danaus=off" "$(run --annotation danaus=off -v "$data:/data" $IMAGE_SMALL grep -c ' /data fuse' /proc/mounts || true)" 0
bad "bad size" 'danaus\.cache' --annotation danaus.cache=12q -v "$data:/data"
bad "bad CPUs" 'danaus\.cpus' --annotation danaus.cpus=1-x -v "$data:/data"
bad "bad pool" 'danaus\.pool' --annotation danaus.pool=../x -v "$data:/data"
bad "a mount without a source" 'danaus\.mount' --annotation danaus.mount=/m
bad "a relative target" 'danaus\.mount.*absolute|absolute' --annotation danaus.mount=m=local:/srv
bad "the root as target" 'danaus\.mount' --annotation "danaus.mount=/=local:$data"
bad "an unknown source" 'nosuch' --annotation danaus.mount=/m=nosuch:/srv
bad "a missing directory" 'missing-directory' --annotation danaus.mount=/m=local:/missing-directory
bad "a relative source" 'absolute|local' --annotation danaus.mount=/m=local:srv
bad "a broken union" 'position [0-9]+' --annotation "danaus.mount=/m=union:[local:$data;rw"
bad "two at one target" '/m' --annotation "danaus.mount.a=/m=local:$data" --annotation "danaus.mount.b=/m=local:$data"
bad "an unknown option" 'nonsense' --annotation "danaus.mount=/m=local:$data;nonsense"

printf '{"runtimez": []}' > "$CASE_DIR/config.json"
case_cleanup() { umount /etc/danaus/danaus.json; }
mount --bind "$CASE_DIR/config.json" /etc/danaus/danaus.json
bad "an unknown key of danaus.json" 'runtimez' -v "$data:/data"
printf '{"log_level": 7}' > "$CASE_DIR/config.json"
bad "a wrong type in danaus.json" 'log_level' -v "$data:/data"
printf '{' > "$CASE_DIR/config.json"
bad "danaus.json that is no JSON" 'danaus\.json' -v "$data:/data"
printf '{"runtimes": ["/no/such/runtime"]}' > "$CASE_DIR/config.json"
out=$(pod --hooks-dir "$CASE_DIR/none" --runtime /usr/local/bin/danaus-runtime run --rm --cgroup-parent "$CASE_CGROUP" \
	--annotation danaus=on -v "$data:/data" $IMAGE_SMALL true 2>&1) && fail "no runtime, and it started"
has "a missing low-level runtime" "$out" 'no low-level runtime found: install'
umount /etc/danaus/danaus.json
declare -F case_cleanup > /dev/null && unset -f case_cleanup

# a target that goes through a symbolic link of the image or of a volume; nothing is made on the host
host=$(new_dir host) root=$(new_dir root)
pod export "$(pod create $IMAGE_SMALL true)" | tar -x -C "$root"
ln -s "$host" "$root/link"; ln -s "../../../../../../../..$host" "$root/dots"; ln -s "$host" "$data/link"
image="--rootfs $root"
for link in link dots; do bad "a target behind a link" 'symbolic link' --annotation "danaus.mount=/$link/x=local:$data"; done
image=$IMAGE_SMALL
refuses "a target behind a volume's link" 'v/link' run -v "$data:/v" --annotation "danaus.mount=/v/link/x=local:$host" $IMAGE_SMALL true
rm -rf /run/danaus/containers/* # the runtime refused it: the hooks sweep this minutes later
eq "made on the host" "$(ls -A "$host")" ""
bad "a target with .." 'absolute|\.\.' --annotation "danaus.mount=/tmp/../../../../danaus-escape/x=local:$data"
[ ! -e /danaus-escape ] || fail "a target was made on the host"

mount --bind /dev/fuse /dev/fuse
mount -o remount,bind,nodev /dev/fuse
case_cleanup() { umount /dev/fuse; }
if run -v "$data:/data" $IMAGE_SMALL true 2> /dev/null; then fail "a kernel without FUSE: the container started"; fi
has "a kernel without FUSE" "$(cat /run/danaus/hook.log)" '/dev/fuse: .*modprobe fuse'
umount /dev/fuse
unset -f case_cleanup

# A service that does not start
mount --bind /bin/false /usr/local/libexec/danaus/danausd
case_cleanup() { umount /usr/local/libexec/danaus/danausd; }
for pool in "" --annotation=danaus.pool=broken; do
	# shellcheck disable=SC2086
	if run $pool -v "$data:/data" $IMAGE_SMALL true 2> /dev/null; then fail "no service, and it started"; fi
	has "a service that ends at once" "$(tail -n 1 /run/danaus/hook.log)" 'the service did not start: it was killed, .*memory limit'
	eq "what it leaves" "$(ls -A /run/danaus/pools /run/danaus/containers | grep -v :)$(find /sys/fs/cgroup/ -type d -name danaus-broken)" ""
done
umount /usr/local/libexec/danaus/danausd
unset -f case_cleanup

# ENOSPC, on a small file system
mkdir "$CASE_DIR/tiny"
mount -t tmpfs -o size=2m tiny "$CASE_DIR/tiny"
for image in $IMAGE_SMALL $IMAGE_FULL; do
	out=$(run -v "$CASE_DIR/tiny:/data" "$image" sh -c 'dd if=/dev/zero of=/data/f bs=64k count=100 2>&1; echo "code $?"; rm -f /data/f; echo ok > /data/g; cat /data/g; rm /data/g')
	has "a full disk, ${image##*-}" "$out" 'No space left on device'
	has "after it, ${image##*-}" "$out" '^ok$'
done
umount "$CASE_DIR/tiny"
