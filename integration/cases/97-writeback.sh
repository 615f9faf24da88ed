# SPDX-License-Identifier: Apache-2.0
# A cache that writes back: programs work on it through all doors, the host has the same bytes when the
# container is gone, however that came to be, and a full disk is told.
# image: full small
# seconds: 400
. "$LIB/case.sh"
. "$LIB/programs.sh"
mount_of() { echo "danaus.mount=/data=cache:[local:$1;writeback]"; }
back() { local dir=$1; shift; run --annotation "$(mount_of "$dir")" "$@"; }
case_cleanup() { umount "$CASE_DIR/small" 2>/dev/null || true; }

prints "the probes of all doors" '^all agree$' back "$(new_dir doors)" \
	-v "$LIB/../guest/doors.sh:/doors.sh:ro" --annotation danaus.cache=4m $IMAGE_FULL bash /doors.sh
program_shell --annotation "$(mount_of "$(new_dir shell)")"
program_git --annotation "$(mount_of "$(new_dir git)")" --annotation danaus.cache=24m
for d in repo clone; do
	git -c safe.directory='*' -C "$CASE_DIR/git/$d" fsck --strict --no-progress || fail "$d, by the host"
done

data=$(new_dir sqlite)
program_sqlite 5 --annotation "$(mount_of "$data")"
eq "integrity, read by the host" "$(sqlite3 "$data/base.db" 'pragma integrity_check')" ok

data=$(new_dir postgres)
chown 101:101 "$data"
program_postgres 5 --annotation "$(mount_of "$data")"
if [ "$DANAUS_NIGHTLY" = 1 ]; then
	program_busybox --annotation "$(mount_of "$(new_dir busybox)")"
	stressors="access chmod copy-file dentry fallocate fcntl filename fpunch hdd iomix link lockf open readahead
		rename revio seek sync-file utime xattr"
	STRESS_SECONDS=5 program_stress "$(echo $stressors)" /dev/null --annotation "$(mount_of "$(new_dir stress)")"
	program_python "test_os test_posix test_shutil test_tempfile test_io test_fcntl test_mmap" /dev/null \
		--annotation "$(mount_of "$(new_dir python)")"
fi

# less cache than data, and writes in the middle of it
data=$(new_dir fio)
for engine in psync mmap; do
	out=$(back "$data" --annotation danaus.cache=6m $IMAGE_FULL fio --name=v --directory=/data \
		--ioengine=$engine --rw=randrw --bsrange=512-64k --size=8m --numjobs=2 --verify=crc32c \
		--verify_fatal=1 --randseed=7 --fallocate=none --do_verify=1 --thread=0 --group_reporting \
		--minimal 2>&1) || { echo "$out"; fail "fio, $engine"; }
done

data=$(new_dir large)
program_large "$data" --annotation "$(mount_of "$data")"

# What the container saw is what the host has after it.
data=$(new_dir tree)
sums='cd /data && find . -type f | LC_ALL=C sort | xargs sha256sum && find . -type f -printf "%P %s %m %T@\n" | LC_ALL=C sort'
inside=$(back "$data" $IMAGE_FULL sh -c "mkdir /data/t && cp -a /usr/include/linux /data/t/a &&
	cp -r /usr/include/linux /data/t/b && cat /data/t/a/*.h > /data/t/all && for i in 1 2 3 4 5 6 7 8 9; do
	head -c \$((i * 1111)) /data/t/all > /data/t/part\$i; echo end >> /data/t/part\$i; done &&
	dd if=/data/t/all of=/data/t/sparse bs=1000 seek=5000 count=77 2>/dev/null && $sums")
eq "the tree, by the host" "$(cd "$data"; bash -c "${sums/\/data/$data}")" "$inside"
at_least "files of it" "$(wc -l <<<"$inside")" 800

# The host sees it within seconds, without anybody asking; and a program that is killed has lost nothing.
data=$(new_dir log)
up w --annotation "$(mount_of "$data")" $IMAGE_FULL bash -c \
	'exec 3>> /data/log; n=0; while :; do n=$((n + 1)); echo "record $n" >&3; echo $n > /proc/1/fd/1; [ $((n % 50)) != 0 ] || sleep 0.01; done'
until_true "the host sees what is written" 30 grep -q '^record 200$' "$data/log"
pod kill -s KILL w >/dev/null
pod wait w >/dev/null
said=$(pod logs w | tail -n 1)
pod rm -f -t 0 w >/dev/null
at_least "records by the host, of $said" "$(grep -c '^record ' "$data/log")" "$said"
eq "in their order" "$(cut -d' ' -f2 "$data/log" | sort -n -c 2>&1)" ""

# A full disk is told to the program, and what it was told is written is there.
mkdir "$CASE_DIR/small"
mount -t tmpfs -o size=6m small "$CASE_DIR/small"
out=$(back "$CASE_DIR/small" $IMAGE_FULL python3 -c '
import os
fd, n = os.open("/data/big", os.O_WRONLY | os.O_CREAT), 0
try:
    while True:
        n += os.write(fd, b"b" * 10000)
except OSError as error:
    print(error.strerror)
os.fsync(fd)
os.close(fd)
print(n)')
has "a full disk" "$out" '^No space left on device$'
eq "what was written" "$(stat -c %s "$CASE_DIR/small/big")" "$(tail -n 1 <<<"$out")"
at_least "before it was full" "$(tail -n 1 <<<"$out")" 4000000
umount "$CASE_DIR/small"

if run --annotation "danaus.mount=/data=local:$data;writeback" $IMAGE_SMALL true 2>/dev/null; then
	fail "writeback without a cache: it started"
fi
has "the log" "$(cat /run/danaus/hook.log)" 'writeback: options are'
