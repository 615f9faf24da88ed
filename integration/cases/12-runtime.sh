# SPDX-License-Identifier: Apache-2.0
# podman with danaus-runtime: without any hook, and beside the hooks; a container without the
# annotation gets a byte-identical config.
# image: small
RUNTIME=/usr/local/bin/danaus-runtime
. "$LIB/case.sh"
. "$LIB/hello.sh"
hello beside-the-hooks
mkdir "$CASE_DIR/no-hooks"
pod() { podman --hooks-dir "$CASE_DIR/no-hooks" "$@"; }
hello alone
# danaus-runtime edits what is exec'ed as well (hooks are not asked then)
up x -v "$(new_dir x):/data" $IMAGE_SMALL sleep 1000
pod exec x sh -c 'echo x > /data/f'
at_least "opens of an exec'ed static program at the notify door" "$(ops x notify open)" 1
down x

# a container without the annotation: no service, and its config is not touched
cat > "$CASE_DIR/runtime" <<-R
	#!/bin/bash
	for ((i = 1; i < \$#; i++)); do
		[ "\${!i}" != --bundle ] || { j=\$((i + 1)); cp "\${!j}/config.json" "$CASE_DIR/given.json"; }
	done
	exec /usr/local/bin/danaus-runtime "\$@"
R
chmod +x "$CASE_DIR/runtime"
pod --runtime "$CASE_DIR/runtime" run -d --name plain --cgroup-parent "$CASE_CGROUP" $IMAGE_SMALL sleep 1000 > /dev/null
eq "it has a service" "$(danausctl list --json | jq "has(\"$(full_id plain)\")")" false
cmp "$CASE_DIR/given.json" "$(pod inspect -f '{{.OCIConfigPath}}' plain)"
down plain

mkdir "$CASE_DIR/bundle"
printf '{ "ociVersion":"1.0.2",\n "process": {"args":["sh"],   "cwd":"/"}, "annotations": {"a":"b"} }\n' > "$CASE_DIR/bundle/config.json"
cp "$CASE_DIR/bundle/config.json" "$CASE_DIR/before.json"
/usr/local/bin/danaus-runtime create --bundle "$CASE_DIR/bundle" none > "$CASE_DIR/out" 2>&1 || true # it has no root
cmp "$CASE_DIR/before.json" "$CASE_DIR/bundle/config.json"
cmp "$CASE_DIR/before.json" <(/usr/local/libexec/danaus/danaus-hook precreate < "$CASE_DIR/before.json")
has "other verbs go to the runtime" "$(/usr/local/bin/danaus-runtime --version)" 'crun|runc'
