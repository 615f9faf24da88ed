# SPDX-License-Identifier: Apache-2.0
# The options of podman run that change who the program is and what it sees.
# image: small full
# seconds: 240
. "$LIB/case.sh"

check='echo w > /data/f-$$ && cat /data/f-$$ && [ "$(stat -c %u:%g /data/f-$$)" = "$(id -u):$(id -g)" ] &&
	rm /data/f-$$ && ls /data | wc -l'
try() { # NAME OPTIONS...: on both images, each by the door that is meant for it
	local name=$1 data i door got line program; shift
	for i in $IMAGE_SMALL $IMAGE_FULL; do
		data=$(new_dir "o-$name")
		chmod 777 "$data"
		coproc { run -i -v "$data:/data" "$@" "$i" sh -c "$check; read -r _" 2>&1; }
		program=$COPROC_PID got=
		while [[ $got != *' '*' ' ]] && read -r -t 30 line <&"${COPROC[0]}"; do got+="$line "; done
		eq "$name, ${i##*-}" "$got" "w 0 "
		[ "$i" = $IMAGE_SMALL ] && door=notify || door=shm
		at_least "$name, ${i##*-}: opened and unlinked by $door" "$(danausctl stats --json |
			jq "[.. | objects | .$door? // empty | .open.count, .unlink.count] | min")" 1
		echo >&"${COPROC[1]}"
		wait "$program"
	done
}
try plain
try init --init
try user --user 1000:1000
try user-name --user user
try read-only --read-only
try no-caps --cap-drop all
try no-caps-user --cap-drop all --user 1000
try no-new-privileges --security-opt no-new-privileges
try unconfined --security-opt seccomp=unconfined
try privileged --privileged
try pid-host --pid=host
try uidmap --uidmap 0:100000:65536 --gidmap 0:100000:65536
try uidmap-user --uidmap 0:100000:65536 --gidmap 0:100000:65536 --user 1000
for f in subuid subgid; do
	echo containers:200000:100000 > "$CASE_DIR/$f"
	mount --bind "$CASE_DIR/$f" /etc/$f
done
case_cleanup() { umount /etc/subuid /etc/subgid; }
try userns-auto --userns=auto
try userns-auto-user --userns=auto:size=70000 --user 1000
try memory --memory 128m --cpus 1
try workdir --workdir /data
try entrypoint --entrypoint '["sh", "-c", "exec \"$@\"", "x"]'
try env --env PATH=/bin:/usr/bin --env A=b
try tmpfs --tmpfs /tmp
try ipc --ipc host --uts host

data=$(new_dir preload)
has "the image's own LD_PRELOAD stays" "$(run --env LD_PRELOAD=libm.so.6 -v "$data:/data" $IMAGE_FULL sh -c 'echo x > /data/f; grep -c libm.so /proc/self/maps; echo "$LD_PRELOAD"' | tail -n 1)" 'libm\.so\.6'

data=$(new_dir ro)
echo kept > "$data/f"
out=$(run -v "$data:/data:ro" $IMAGE_FULL bash -c 'cat /data/f; echo x > /data/f; rm /data/f; mkdir /data/d; true' 2>&1)
has "read-only" "$out" '^kept$'
eq "read-only: refusals" "$(grep -c 'Read-only file system' <<<"$out")" 3
out=$(run -v "$data:/data:ro" $IMAGE_SMALL sh -c 'cat /data/f; echo x > /data/f; mkdir /data/d; true' 2>&1)
eq "read-only, static: refusals" "$(grep -ci 'read-only file system' <<<"$out")" 2

pod volume create named > /dev/null
run -v named:/data $IMAGE_SMALL sh -c 'echo n > /data/f'
eq "a named volume" "$(run -v named:/data:ro $IMAGE_FULL cat /data/f)" n

a=$(new_dir a) b=$(new_dir b)
mkdir "$a/sub"; echo in-a > "$a/f"; echo in-b > "$b/f"; echo hidden > "$a/sub/f"
out=$(run -v "$a:/data" -v "$b:/data/sub" $IMAGE_FULL bash -c 'cat /data/f /data/sub/f; cd /data/sub; cat ../f; ls /data/sub/..; mv /data/f /data/sub/g 2>&1; ls /data/sub' | tr '\n' ' ')
eq "nested volumes" "$out" "in-a in-b in-a f sub f g "
eq "moved across them" "$(cat "$b/g")" in-a
eq "the hidden one" "$(cat "$a/sub/f")" hidden
out=$(run -v "$b:/data/sub" -v "$a:/data" $IMAGE_SMALL sh -c 'ls /data; cat /data/sub/f' | tr '\n' ' ')
eq "nested, static" "$out" "sub in-b "

for name in a,ro 'b[c]' 'd\,e' 'f;g' 'h i'; do # no options, and no brackets
	data=$(new_dir "$name")
	run -v "$data:/data" $IMAGE_SMALL sh -c 'echo w > /data/f'
	eq "a directory named $name" "$(cat "$data/f")" w
done
run --annotation "danaus.mount=/data=local:$CASE_DIR/a\\;ro;rw" $IMAGE_SMALL sh -c 'echo m > /data/f'
eq "a comma in danaus.mount" "$(cat "$CASE_DIR/a,ro/f")" m
run --annotation "danaus.mount=/data=local:$CASE_DIR/f;;g;rw" $IMAGE_SMALL sh -c 'echo m > /data/f'
eq "a semicolon in danaus.mount" "$(cat "$CASE_DIR/f;g/f")" m

echo single > "$CASE_DIR/file"
has "a single file is left alone" "$(run -v "$CASE_DIR/file:/etc/single" -v "$b:/data" $IMAGE_FULL \
	sh -c 'cat /etc/single; grep -c " /etc/single fuse" /proc/mounts; grep -c " /data fuse" /proc/mounts' | tr '\n' ' ')" '^single 0 1 $'

up again -v "$b:/data" $IMAGE_FULL sh -c 'echo run >> /data/runs; exec sleep 1000'
until_true "the first start" 10 test -s "$b/runs"
pod restart -t 1 again > /dev/null
until_true "the second start" 10 test "$(wc -l < "$b/runs" 2>/dev/null)" = 2 || until_true "second" 5 sh -c "[ \$(wc -l < $b/runs) = 2 ]"
eq "exec after the restart" "$(pod exec again cat /data/runs | wc -l)" 2

# pause with calls in flight; appending, so that the size says whether it goes on, whenever one looks
pod exec -d again bash -c 'i=0; while :; do i=$((i+1)); echo $i >> /data/i; done'
size() { stat -c %s "$b/i"; }
settled() { local before=$was; was=$(size); [ "$was" = "$before" ]; }
until_true "the writer" 10 test -s "$b/i"
for _ in 1 2 3; do
	pod pause again > /dev/null
	was=-1
	until_true "the end of the call in flight" 5 settled
	was=$(size); sleep 0.3
	eq "nothing is written while it is paused" "$(size)" "$was"
	pod unpause again > /dev/null
	goes_on() { [ "$(size)" != "$was" ]; }
	until_true "it goes on" 20 goes_on
done
down again

pod pod create --name p --share ipc,uts,pid --cgroup-parent "$CASE_CGROUP" --infra-image $IMAGE_SMALL \
	--infra-command 'sleep 1000' > /dev/null
try pod --pod p --cgroup-parent ''
pod pod kill -s KILL p > /dev/null
pod pod rm -f -t 0 p > /dev/null
find /sys/fs/cgroup/ -mindepth 2 -depth -type d -path "*$CASE_CGROUP/*" -delete # podman 4 leaves the pod's
