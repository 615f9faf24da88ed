# SPDX-License-Identifier: Apache-2.0
# A cache over CephFS and over a union on it: real programs, dynamic and static; and two services as
# two hosts, of which each sees at open what the other has written.
# image: full small
# seconds: 400
. "$LIB/case.sh"
. "$LIB/ceph.sh"
. "$LIB/programs.sh"
ceph_start
ceph_dirs /tenants/a/{top,own,d1,d2,d3} /base

script='echo one > /data/f; cat /data/f /data/f; echo two >> /data/f; cat /data/f; mv /data/f /data/g; cat /data/g | wc -l; rm /data/g; ls /data'
want="one one one two 2 "
own="cache:[ceph:/tenants/a/own]"
eq "dynamic" "$(on_ceph "$own" $IMAGE_FULL bash -c "$script" | tr '\n' ' ')" "$want"
eq "static" "$(on_ceph "$own" $IMAGE_SMALL sh -c "$script" | tr '\n' ' ')" "$want"
cached=(--annotation "danaus.mount=/data=$own;id=tenant-a")
program_doors "${cached[@]}"
program_busybox "${cached[@]}"
program_shell --env CHANGES_LATE=yes "${cached[@]}"

lower=$(new_dir lower)
mkdir "$lower/d"; echo base > "$lower/d/f"
union="cache:[union:[ceph:/tenants/a/top;rw][local:$lower;ro]]"
script='cat /data/d/f; echo more >> /data/d/f; cat /data/d/f; rm /data/d/f; ls /data/d'
eq "over a union" "$(on_ceph "$union" $IMAGE_SMALL sh -c "$script" | tr '\n' ' ')" "base base more "
eq "the lower branch" "$(cat "$lower/d/f")" base

# static C and Go beside dynamic programs, in an empty directory, without a cache as well
for source in ceph:/tenants/a/d1 "union:[ceph:/tenants/a/d2;rw][ceph:/base;ro]" \
	"cache:[union:[ceph:/tenants/a/d3;rw][ceph:/base;ro]]"; do
	program_doors --annotation "danaus.mount=/data=$source;id=tenant-a"
done

# At night all that 93 runs
ceph_dirs /tenants/a/p1 /tenants/a/p2
for source in "cache:[ceph:/tenants/a/p1]" "cache:[union:[ceph:/tenants/a/p2;rw][ceph:/base;ro]]"; do
	volume=(--annotation "danaus.mount=/data=$source;id=tenant-a")
	if [ "$DANAUS_NIGHTLY" = 1 ]; then ceph_programs "$source"; continue; fi
	program_sqlite 2 "${volume[@]}"
	FIO_ENGINES=psync program_fio "${volume[@]}"
	if [[ $source == *union* ]]; then
		program_git "${volume[@]}"
	else
		run "${volume[@]}" $IMAGE_SMALL chown 101:101 /data
		program_postgres 2 "${volume[@]}"
	fi
done

# hot pages are read without a request, also over CephFS
up hot --annotation "danaus.mount=/data=$own;id=tenant-a" $IMAGE_FULL sleep 1000
pod exec -i hot python3 - <<'P'
import os, time
with open("/data/f", "wb") as f:
    f.write(b"x" * 65536)
fd, end = os.open("/data/f", os.O_RDONLY), time.monotonic() + 3
while time.monotonic() < end:
    for at in range(0, 65536, 4096):
        assert os.pread(fd, 4096, at) == b"x" * 4096
P
at_least "reads from a window" "$(ops hot window read)" 1000
down hot

for i in h1 h2; do
	up $i --annotation "danaus.mount=/data=$own;id=tenant-a" $IMAGE_SMALL sleep 1000
done
pod exec h1 sh -c 'echo number 0 > /data/f'
for n in 1 2 3 4 5 6; do
	from=h$((n % 2 + 1)) to=h$(((n + 1) % 2 + 1))
	eq "what is there" "$(pod exec $to cat /data/f)" "number $((n - 1))"
	pod exec $from sh -c "echo number $n > /data/f"
	eq "what the other host wrote" "$(pod exec $to cat /data/f)" "number $n"
done
down h1 h2
prints "within a second of the last look" '^they agree$' timeout 150 python3 "$LIB/../guest/hosts.py" opens \
	podman --runtime "$RUNTIME" run --rm -i --cgroup-parent "$CASE_CGROUP" --annotation danaus=on \
	--annotation "danaus.mount=/data=$own;id=tenant-a" -v "$LIB/../guest/hosts.py:/hosts.py:ro" \
	$IMAGE_FULL python3 /hosts.py agent /data
