# SPDX-License-Identifier: Apache-2.0
# A union of host directories: the container sees them merged, changes only the first, and the
# kernel's overlayfs mounts what it left behind.
# image: small full
# seconds: 240
. "$LIB/case.sh"

# refused WHAT PATTERN COMMAND...: the container does not start, and the hooks' log says why
refused() {
	local what=$1 pattern=$2; shift 2
	refuses "$what" '' "$@"
	has "$what" "$(tail -n 1 /run/danaus/hook.log)" "$pattern"
}

case_cleanup() {
	! mountpoint -q "$CASE_DIR/merged" || umount "$CASE_DIR/merged"
	! mountpoint -q /etc/danaus/danaus.json || umount /etc/danaus/danaus.json
}
base=$(new_dir base) mid=$(new_dir mid) top=$(new_dir top) merged=$(new_dir merged)
jq --arg d "$CASE_DIR" '.local_sources = [$d]' /etc/danaus/danaus.json > "$CASE_DIR/json"
mount --bind "$CASE_DIR/json" /etc/danaus/danaus.json
echo base > "$base/f"; echo hidden > "$base/g"; echo mid > "$mid/g"; mkdir "$base/d" "$mid/d" "$base/gone"
echo 1 > "$base/d/one"; echo 2 > "$mid/d/two"; touch "$base/gone/x"; ln -s f "$base/l"
find "$base" "$mid" | sort > "$CASE_DIR/before"
find "$base" "$mid" -type f -exec md5sum {} + | sort >> "$CASE_DIR/before"

un="danaus.mount=/data=union:[local:$top;rw][local:$mid;ro][local:$base;ro]"
for i in $IMAGE_SMALL $IMAGE_FULL; do
	rm -rf "$top"; top=$(new_dir top)
	out=$(run --annotation "$un" "$i" sh -ec 'cd /data; cat f g l d/one d/two; ls | tr "\n" " "; ls d | tr "\n" " "' | tr '\n' ' ')
	eq "merged, ${i##*-}" "$out" "base mid base 1 2 d f g gone l one two "
	eq "reading copies nothing" "$(ls -A "$top")" ""
	out=$(run --annotation "$un" "$i" sh -ec 'cd /data
		echo more >> f; chmod 600 g; rm d/one; echo new > d/three; rm -r gone; mkdir gone; mv l m
		mkdir fresh; mv fresh other; echo x > other/y; ln f hard; cat f hard; ls d gone' | tr '\n' ' ')
	eq "changed, ${i##*-}" "$out" "base more base more d: three two  gone: "
	find "$base" "$mid" | sort > "$CASE_DIR/after"
	find "$base" "$mid" -type f -exec md5sum {} + | sort >> "$CASE_DIR/after"
	cmp "$CASE_DIR/before" "$CASE_DIR/after"
	eq "the whiteout" "$(stat -c '%F %t:%T' "$top/d/one")" "character special file 0:0"
	until_true "nothing of ours is left" 10 test ! -e "$top/.danaus.work"
	out=$(run --annotation "$un" "$i" sh -c 'cd /data; find . | sort; cat f g d/* other/y' | grep -v danaus)
	mount -t overlay overlay -o "lowerdir=$mid:$base,upperdir=$top,workdir=$(new_dir "work-${i##*-}")" "$merged"
	eq "through overlayfs, ${i##*-}" "$(cd "$merged"; find . | sort; cat f g d/* other/y)" "$out"
	umount "$merged"
done

# git and a package of files on it, as a program's work
prints "git" '^clean$' run -i --annotation "$un" $IMAGE_FULL bash -euo pipefail -s <<'G'
cd /data; export HOME=/tmp; git config --global user.email a@b; git config --global user.name n
cp -a /usr/include/linux src; cd src; git init -q .; git add .; git commit -qm one
echo x >> fs.h; git commit -qam two; git mv fs.h gs.h; git commit -qm three; git gc -q; git fsck --strict --no-progress
[ -z "$(git status --porcelain)" ] && echo clean
G

# one writer at a time
up first --annotation "$un" $IMAGE_SMALL sleep 1000
refused "a second union on the same branch" 'in use by another union' run --annotation "$un" $IMAGE_SMALL true
down first
refused "a mistake" 'position' run --annotation "danaus.mount=/data=union:[local:$top;rw" $IMAGE_SMALL true
