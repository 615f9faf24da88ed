# SPDX-License-Identifier: Apache-2.0
# podman with runc, through the hooks and through danaus-runtime, in the machine's own cgroup layout.
# image: small
# cgroups: hybrid
RUNTIME=$(command -v runc)
. "$LIB/case.sh"
. "$LIB/hello.sh"
hello runc

printf '{"runtimes": ["%s"]}' "$RUNTIME" > "$CASE_DIR/danaus.json"
case_cleanup() { umount /etc/danaus/danaus.json; }
mount --bind "$CASE_DIR/danaus.json" /etc/danaus/danaus.json
RUNTIME=/usr/local/bin/danaus-runtime
mkdir "$CASE_DIR/no-hooks"
pod() { podman --hooks-dir "$CASE_DIR/no-hooks" "$@"; }
has "the low-level runtime" "$($RUNTIME --version)" '^runc '
hello runc-by-danaus-runtime
