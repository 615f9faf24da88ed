# SPDX-License-Identifier: Apache-2.0
# What the engine mounts in a volume (a tmpfs, a single file, a directory that is not Danaus's) is
# seen there through each door, and the rest of the volume is Danaus's.
# image: small full
# seconds: 60
. "$LIB/case.sh"

a=$(new_dir a) b=$(new_dir b)
mkdir "$a/etc"
echo in-a > "$a/f"; echo hidden > "$a/etc/conf"; echo conf > "$CASE_DIR/conf"
ln -s etc/conf "$a/link"
ln -s ../f "$a/etc/up"

look='echo t > /data/tmp/t && cat /data/f /data/etc/conf /data/link /data/tmp/t /data/tmp/../f /data/etc/up
	cd /data/tmp && cat t ../f ../etc/conf && cd .. && cat tmp/t f && cd etc && cat conf up ../tmp/t
	cd / && ls /data; rmdir /data/tmp 2>/dev/null || echo busy; rm -f /data/etc/conf 2>/dev/null || echo busy
	mv /data/f /data/tmp/f && cat /data/tmp/f && echo new > /data/g && cat /data/g
	echo changed > /data/link; mkdir /data/tmp/d /data/d && ls -d /data/tmp/d /data/d; df /data/tmp | grep -c tmpfs'
want='in-a conf conf t in-a in-a t in-a conf t in-a conf in-a t etc f link tmp busy busy in-a new /data/d /data/tmp/d 1 '
for i in $IMAGE_SMALL $IMAGE_FULL; do
	[ "$i" = $IMAGE_SMALL ] && door=notify || door=shm
	rm -rf "$a/d" "$a/g"; echo in-a > "$a/f"; echo conf > "$CASE_DIR/conf"
	out=$(run -v "$a:/data" --tmpfs /data/tmp -v "$CASE_DIR/conf:/data/etc/conf" $i sh -c "$look" 2>&1 | tr '\n' ' ')
	eq "${i##*-}: seen in the volume" "$out" "$want"
	eq "${i##*-}: the file that was mounted" "$(cat "$CASE_DIR/conf")" changed
	eq "${i##*-}: the one below it" "$(cat "$a/etc/conf")" hidden
	eq "${i##*-}: nothing in the place of the tmpfs" "$(ls -A "$a/tmp")" ""
	up look -v "$a:/data" --tmpfs /data/tmp $i sh -c 'cat /data/g > /data/tmp/x; exec sleep 1000'
	until_true "the tmpfs is the kernel's" 20 pod exec look test -s /data/tmp/x
	at_least "${i##*-}: the volume is served by $door" "$(danausctl stats --json |
		jq "[.. | objects | .$door? // empty | .open.count] | add")" 1
	down look
done

# Two layers of them, and a volume in one
out=$(run --annotation danaus.mount=/data=local:"$a" --annotation danaus.mount.2=/data/tmp/v=local:"$b" \
	--tmpfs /data/tmp -v "$CASE_DIR/conf:/data/new/conf" $IMAGE_FULL bash -c \
	'echo v > /data/tmp/v/f; cat /data/tmp/v/f; cat /data/tmp/v/../../g /data/new/conf; stat -f -c %T /data/tmp; grep -c " /data.* fuse" /proc/mounts' 2>&1 | tr '\n' ' ')
eq "with sources of one's own" "$out" "v new changed tmpfs 2 "
eq "the volume in the tmpfs" "$(cat "$b/f")" v
eq "a place that was missing is made" "$(stat -c %F "$a/new/conf")" "regular empty file"

out=$(run -v "$b:/data:ro" -v "$CASE_DIR/conf:/data/f" $IMAGE_FULL bash -c 'cat /data/f; echo x > /data/g; true' 2>&1 | tr '\n' ' ')
has "in a read-only volume" "$out" '^changed .*Read-only'
