# SPDX-License-Identifier: Apache-2.0
# danausctl check says what to do, configure does it and takes it back; podman build knows nothing of it. Each
# program has a man page.
# image: small
. "$LIB/case.sh"
files() { find /etc -xdev -type f -exec sha256sum {} + | LC_ALL=C sort; }
files > "$CASE_DIR/before"
refuses "check, before podman knows the hook" '^podman +FAILED .*danausctl configure --runtime=podman' danausctl check
danausctl configure --runtime=podman --dry-run > /dev/null
diff "$CASE_DIR/before" <(files)
prints "configure" '^write /etc/containers' danausctl configure --runtime=podman
prints "again" 'nothing to do' danausctl configure --runtime=podman
out=$(danausctl check)
for what in root kernel seccomp fuse paths fanotify cgroups 'open files' installation configuration runtime podman containerd; do
	has "check" "$out" "^$what +ok "
done
printf 'FROM %s\nRUN true\n' $IMAGE_SMALL > Dockerfile # it reads podman's own hooks, whatever hooks_dir is
prints "podman build" 'COMMIT' podman build --isolation chroot .
pod image prune -f > /dev/null
prints "a verb's help" '^usage: danausctl stats \[POOL\]' danausctl stats --help
prints "configure --remove" '^remove /etc/containers' danausctl configure --runtime=podman --remove
diff "$CASE_DIR/before" <(files)

has "check, without CRI-O" "$out" '^crio +skipped not installed'
mkdir "$CASE_DIR/bin"
ln -s /bin/true "$CASE_DIR/bin/crio"
check() { PATH=$PATH:$CASE_DIR/bin danausctl check; }
refuses "check, before CRI-O knows it" '^crio +FAILED .*danausctl configure --runtime=crio' check
danausctl configure --runtime=crio > /dev/null
has "check, when CRI-O knows it" "$(check || true)" '^crio +ok'
danausctl configure --runtime=crio --remove > /dev/null
diff "$CASE_DIR/before" <(files)

mount --bind /dev/fuse /dev/fuse
mount -o remount,bind,nodev /dev/fuse
case_cleanup() { umount /dev/fuse; }
refuses "check, without FUSE" '^fuse +FAILED .*modprobe fuse' danausctl check

echo '{"ceph": {"a": {"id": "a", "conf": "/nonexistent/ceph.conf"}}}' > "$CASE_DIR/danaus.json"
mount --bind "$CASE_DIR/danaus.json" /etc/danaus/danaus.json
case_cleanup() { umount /etc/danaus/danaus.json /dev/fuse; }
refuses "check, with a file that is not there" '^configuration +FAILED .*ceph\.a\.conf: /nonexistent/ceph\.conf: No such file' danausctl check

for program in /usr/local/bin/danaus* /usr/local/bin/containerd-shim-danaus* /usr/local/libexec/danaus/danaus*; do
	compgen -G "/usr/local/share/man/man?/${program##*/}.*" > /dev/null || fail "$program has no man page"
done
