# SPDX-License-Identifier: Apache-2.0
# A container without the annotation runs as if Danaus were not installed: the harness works, and
# the config that reaches the runtime is podman's.
# image: small
. "$LIB/case.sh"

data=$(new_dir data)
# A "runtime" that keeps the config it was given, in front of the real one
cat > "$CASE_DIR/keep" <<-R
	#!/bin/sh
	while [ "\$prev" != --bundle ] && [ -n "\$1\$more" ]; do break; done
	b=\$(printf '%s\n' "\$@" | sed -n '/^--bundle$/{n;p}')
	[ -z "\$b" ] || cp "\$b/config.json" "$CASE_DIR/config.json"
	exec $(command -v crun) "\$@"
R
sed -i '/while /d' "$CASE_DIR/keep"
chmod +x "$CASE_DIR/keep"

one() { # NAME PODMAN-OPTIONS...
	local name=$1; shift
	out=$(RUNTIME=$CASE_DIR/keep pod "$@" --runtime "$CASE_DIR/keep" run --rm --name same \
		--cgroup-parent "$CASE_CGROUP" --hostname h -v "$data:/data" $IMAGE_SMALL sh -c 'echo x > /data/f; cat /data/f')
	eq "$name" "$out" x
	# podman's own random names, the time and the order of mounts and variables change from run to run
	jq -S '(.mounts |= sort_by(.destination)) | .process.env |= sort' "$CASE_DIR/config.json" |
		sed -E 's/[0-9a-f]{64}/ID/g; s#/overlay/[A-Za-z0-9/]+#/LAYER#g; s/"HOSTNAME=[^"]*"//; s/"[0-9T:.-]{20,}Z"//' \
			> "$CASE_DIR/$name.json"
}
mkdir "$CASE_DIR/no-hooks"
one with-danaus
one without --hooks-dir "$CASE_DIR/no-hooks"
diff "$CASE_DIR/with-danaus.json" "$CASE_DIR/without.json"
