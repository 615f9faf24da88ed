# SPDX-License-Identifier: Apache-2.0
# Symlinks, "..", hard links, /proc/self/fd and renames under way do not reach the host outside of
# the volume; a link out of the volume is the container's, not the host's. What a program's own mounts
# hide stays hidden.
# image: full small
. "$LIB/case.sh"
outer=$(new_dir outer)
mkdir "$outer/data"
echo HOST-SECRET > "$outer/secret"
prints "the attempts" ' 0 reached$' run -v "$outer/data:/data" -v "$LIB/../guest/escape.py:/escape.py:ro" $IMAGE_FULL \
	python3 /escape.py "$outer/data"
echo container > "$CASE_DIR/own"
for image in $IMAGE_FULL $IMAGE_SMALL; do
	out=$(run -v "$outer/data:/data" -v "$CASE_DIR/own:/secret:ro" "$image" sh -c \
		'cat /data/up; cat /data/../secret; cd /data/a && cat ../../secret; cat /data/root/secret')
	eq "links out of the volume, ${image##*-}" "$(tr '\n' ' ' <<<"$out")" "container container container container "
done
# a static program from a directory descriptor, and through its parents
out=$(run -v "$outer/data:/data" $IMAGE_SMALL sh -c 'cd /data/a/b/c && cat ../../../../secret ../../../../../secret; cat /data/up' 2>&1 || true)
hasnt "a static program" "$out" HOST-SECRET
# What is mounted over a part of a volume in another mount namespace hides that there, as it hides a part
# of a bind mount, also from who was attached before or has been since
cat > "$CASE_DIR/hide" <<-'END'
	mount -t tmpfs none /data/hide 2> /dev/null ||
		python3 -c 'import ctypes; ctypes.CDLL(None).mount(b"none", b"/data/hide", b"tmpfs", 0, None)'
	cat /data/hide/f
	ls -A /data/hide
	cd /data
	cat hide/f
	cat a/own
END
hide='mkdir /data/hide; echo seen > /data/hide/f; unshare -m sh /hide; cat /data/hide/f'
for image in $IMAGE_FULL $IMAGE_SMALL; do
	for with in run plain; do
		dir=$(new_dir "hide-$with-${image##*-}")
		mkdir -p "$dir/a"
		echo own > "$dir/a/own"
		$with --cap-add sys_admin -v "$dir:/data" -v "$CASE_DIR/hide:/hide:ro" "$image" sh -c "$hide" > "$CASE_DIR/$with" 2>&1 || true
	done
	has "its own are there, ${image##*-}" "$(cat "$CASE_DIR/plain")" '^own$'
	eq "seen from outside alone, ${image##*-}" "$(grep -c '^seen$' "$CASE_DIR/plain")" 1
	eq "what is hidden, ${image##*-}" "$(cat "$CASE_DIR/run")" "$(cat "$CASE_DIR/plain")"
done
