# SPDX-License-Identifier: Apache-2.0
# Capabilities, no_new_privs, the seccomp profile, ids, limits, environment, descriptors: in the
# container they are what they are without Danaus, and so is what a set-user-id program or a device node
# on the volume does. One difference is stated: Danaus' own filter is one more, so that
# /proc/self/status says "Seccomp: 2" also for an unconfined container.
# image: full
# seconds: 240
. "$LIB/case.sh"
data=$(new_dir data)
chmod 777 "$data"
same() { # NAME OPTIONS...
	local name=$1; shift
	plain "$@" -v "$data:/data" -v "$LIB/../guest/identity.sh:/identity.sh:ro" $IMAGE_FULL sh /identity.sh a "b c" \
		> "$CASE_DIR/$name.plain" 2>&1 || true
	run "$@" -v "$data:/data" -v "$LIB/../guest/identity.sh:/identity.sh:ro" $IMAGE_FULL sh /identity.sh a "b c" \
		> "$CASE_DIR/$name.danaus" 2>&1 || true
	compare "$name"
}
compare() { # NAME
	local name=$1
	at_least "$name: lines" "$(wc -l < "$CASE_DIR/$name.plain")" 50
	# shellcheck disable=SC2016
	tr -d '\r' < "$CASE_DIR/$name.plain" | awk '/^Seccomp:\t/ { $0 = "Seccomp:\t2" } /^Seccomp_filters:\t/ { $0 = "Seccomp_filters:\t" $2 + 1 } { print }' \
		> "$CASE_DIR/$name.wanted"
	eq "$name: lines about seccomp" "$(grep -c '^Seccomp' "$CASE_DIR/$name.plain")" 2
	tr -d '\r' < "$CASE_DIR/$name.danaus" | diff "$CASE_DIR/$name.wanted" - || fail "$name: not the same"
}
same root
same user --user 1000:1001 --group-add 33
same no-caps --cap-drop all
same some-caps --cap-drop all --cap-add chown,sys_chroot,sys_admin
same user-caps --user 1000 --cap-add net_admin
same no-new-privileges --security-opt no-new-privileges --user 1000
same unconfined --security-opt seccomp=unconfined
eq "unconfined means it" "$(grep '^Seccomp:' "$CASE_DIR/unconfined.plain" | cut -f2)" 0
same privileged --privileged
nproc=$(sed -n 's/.*"nproc=\([0-9]*\):.*/\1/p' "$CONTAINERS_CONF") # --ulimit replaces all defaults
same limits --ulimit "nproc=$nproc:$nproc" --ulimit nofile=1024:5000 --ulimit core=0:0 --ulimit fsize=1000000:2000000
same limits-small --ulimit "nproc=$nproc:$nproc" --ulimit nofile=256:256
same env --env A=b --env 'LD_LIBRARY_PATH=/x' --umask 0077 --workdir /data
same uidmap --uidmap 0:100000:65536 --gidmap 0:100000:65536
same init --init
same tty -t

# What is exec'ed, by danaus-runtime, which edits it as well
for kind in plain danaus; do
	[ $kind = plain ] && start=(plain -d) || start=(run -d)
	RUNTIME=/usr/local/bin/danaus-runtime "${start[@]}" --name $kind -v "$data:/data" \
		-v "$LIB/../guest/identity.sh:/identity.sh:ro" $IMAGE_FULL sleep 1000 > /dev/null
	for options in "" "--user 1000:1001" "--privileged --env A=b --workdir /data"; do
		# shellcheck disable=SC2086
		pod exec $options $kind sh /identity.sh a "b c" > "$CASE_DIR/exec${options// /-}.$kind" 2>&1 || true
	done
done
for file in "$CASE_DIR"/exec*.plain; do compare "$(basename "$file" .plain)"; done
down plain danaus

jq '.syscalls += [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}] |
	.syscalls |= map(if .action == "SCMP_ACT_ALLOW" then .names -= ["mkdir", "mkdirat"] else . end)' \
	/usr/share/containers/seccomp.json > "$CASE_DIR/profile.json"
out=$(run --security-opt "seccomp=$CASE_DIR/profile.json" -v /bin/busybox:/usr/bin/busybox:ro -v "$data:/data" $IMAGE_FULL \
	sh -c 'busybox mkdir /data/denied; busybox mkdir /tmp/denied; true' 2>&1)
eq "a denied call stays denied" "$(grep -c 'Cannot assign requested address' <<<"$out")" 2
[ ! -e "$data/denied" ]

# Whose rights a program on the volume has, and which device a node there is, is the mount's to say
on_volume() { # run|plain MOUNT-OPTIONS
	rm -rf "$data/own"; mkdir -m 777 "$data/own"
	"$1" --cap-add mknod -v "$data/own:/data$2" $IMAGE_FULL bash -c '
		cd /data; for mode in 4755 2755; do
			cp /usr/bin/id id; chown 1000:1001 id; chmod $mode id
			setpriv --reuid 33 --regid 33 --clear-groups ./id
		done
		mknod null c 1 3; echo x > null; stat -c %F null' 2>&1 | sort # what is an error's has no place among the others
}
for options in "" :nosuid :nodev :noexec; do
	eq "on a volume$options" "$(on_volume run "$options")" "$(on_volume plain "$options")"
done
has "a set-user-id program" "$(on_volume run "")" 'euid=1000'

# A program that meets the volume never sets its umask, which its threads share, not for a moment either
echo text > "$data/f"
out=$(run -v "$data:/data" $IMAGE_FULL sh -c 'umask 027; strace -f -o /tmp/t -e trace=umask,openat sh -c "cat /data/f; : > /data/g"; cat /tmp/t')
has "strace" "$out" 'openat\('
hasnt "calls of umask" "$out" 'umask\('
eq "the mode of what it made" "$(stat -c %a "$data/g")" 640
