# SPDX-License-Identifier: Apache-2.0
# Symlinks, "..", hard links, /proc/self/fd and renames under way do not reach the host outside of
# the volume; a link out of the volume is the container's, not the host's.
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
