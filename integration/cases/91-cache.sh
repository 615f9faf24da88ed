# SPDX-License-Identifier: Apache-2.0
# A cache over a host directory: the doors see one content, two containers of a pool do, git, SQLite
# with killed writers and PostgreSQL work, and fio verifies what it reads through less cache than data.
# image: full small
# seconds: 300
. "$LIB/case.sh"
. "$LIB/programs.sh"
cached() { local dir=$1; shift; run --annotation "danaus.mount=/data=cache:[local:$dir]" "$@"; }

data=$(new_dir doors)
prints "the probes of all doors" '^all agree$' cached "$data" \
	-v "$LIB/../guest/doors.sh:/doors.sh:ro" --annotation danaus.cache=4m $IMAGE_FULL bash /doors.sh

program_shell --annotation "danaus.mount=/data=cache:[local:$(new_dir shell)]"
program_git --annotation "danaus.mount=/data=cache:[local:$(new_dir git)]" --annotation danaus.cache=24m
data=$(new_dir postgres)
chown 101:101 "$data"
program_postgres 5 --annotation "danaus.mount=/data=cache:[local:$data]" --annotation danaus.cache=24m

data=$(new_dir sqlite)
prints "SQLite, killed writers" '^whole$' cached "$data" -v "$LIB/../guest/sqlite.py:/sqlite.py:ro" \
	$IMAGE_FULL python3 /sqlite.py /data 5
eq "integrity, read by the host" "$(sqlite3 "$data/base.db" 'pragma integrity_check')" ok

# less cache than data, and writes in the middle of it
data=$(new_dir fio)
for engine in psync pvsync mmap; do
	out=$(cached "$data" --annotation danaus.cache=6m $IMAGE_FULL fio --name=v --directory=/data \
		--ioengine=$engine --rw=randrw --bsrange=512-64k --size=8m --numjobs=2 --verify=crc32c \
		--verify_fatal=1 --randseed=7 --fallocate=none --do_verify=1 --thread=0 --group_reporting \
		--minimal 2>&1) || { echo "$out"; fail "fio, $engine"; }
done

data=$(new_dir large)
program_large "$data" --annotation "danaus.mount=/data=cache:[local:$data]"

# Two containers of a pool, one dynamic and one static, on one source: what one writes, the other
# reads at once, over a file that both keep open.
data=$(new_dir pool)
head -c 1048576 /dev/zero > "$data/f"
for i in a b; do
	up $i --annotation danaus.pool=pool91 --annotation danaus.cache=4m \
		--annotation "danaus.mount=/data=cache:[local:$data]" "$([ $i = a ] && echo $IMAGE_FULL || echo $IMAGE_SMALL)" \
		sleep 1000
done
for n in 1 2 3 4 5 6; do
	pod exec a sh -c "cat /data/f > /dev/null; cat /data/f > /dev/null"
	pod exec b sh -c "cat /data/f > /dev/null; echo number $n | dd of=/data/f conv=notrunc bs=4096 seek=$n 2>/dev/null"
	has "what the other container wrote" "$(pod exec a dd if=/data/f bs=4096 skip=$n count=1 2>/dev/null | tr -d '\0')" "^number $n\$"
	has "and the host's own" "$(dd if="$data/f" bs=4096 skip=$n count=1 2>/dev/null | tr -d '\0')" "^number $n\$"
done
at_least "bytes that the pool caches" "$(danausctl list --json | jq '[.. | objects | .bytes_cached? // empty] | add')" 500000
if cached "$(new_dir pool/sub)" --annotation danaus.pool=pool91 $IMAGE_SMALL true 2>/dev/null; then
	fail "a part of a cached source: it started"
fi
has "the log" "$(cat /run/danaus/hook.log)" 'another cache of the pool'
down a b

# what the host changes is there when a file is opened, as for any volume after a second at most
echo one > "$data/g"
up c --annotation "danaus.mount=/data=cache:[local:$data]" $IMAGE_SMALL sleep 1000
eq "before" "$(pod exec c cat /data/g)" one
echo two > "$data/g"
until_true "the host's change" 20 sh -c "podman exec c cat /data/g | grep -q '^two'"
down c
