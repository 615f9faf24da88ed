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

mkdir "$CASE_DIR/bundle"
printf '{ "ociVersion":"1.0.2",\n "process": {"args":["sh"],   "cwd":"/"}, "annotations": {"a":"b"} }\n' > "$CASE_DIR/bundle/config.json"
cp "$CASE_DIR/bundle/config.json" "$CASE_DIR/before.json"
/usr/local/bin/danaus-runtime create --bundle "$CASE_DIR/bundle" none > "$CASE_DIR/out" 2>&1 || true # it has no root
cmp "$CASE_DIR/before.json" "$CASE_DIR/bundle/config.json"
cmp "$CASE_DIR/before.json" <(/usr/local/libexec/danaus/danaus-hook precreate < "$CASE_DIR/before.json")
has "other verbs go to the runtime" "$(/usr/local/bin/danaus-runtime --version)" 'crun|runc'
