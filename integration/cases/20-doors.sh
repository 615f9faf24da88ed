# SPDX-License-Identifier: Apache-2.0
# One volume through a dynamic glibc program, a dynamic musl one, a static C one and a static Go one
# at the same time: each sees the others' bytes, sizes, names and locks at once, by the door that is
# meant for it, and nothing goes around the service.
# image: full
. "$LIB/case.sh"

guest=$LIB/../guest/doors.sh
data=$(new_dir data)
up doors -v "$data:/data" -v "$guest:/doors.sh:ro" $IMAGE_FULL sh -c 'bash /doors.sh; sleep 1000'
until_true "the probes' end" 60 sh -c "podman logs doors 2>&1 | grep -Eq 'all agree|answered|does not answer'" || true
out=$(pod logs doors 2>&1)
say "$out"
has "the probes" "$out" '^all agree$'
w() { awk -v k="$1" '$1 == "writes" && $2 == k { print $3 }' <<<"$out"; }
eq "writes at the shared-memory door" "$(ops doors shm write)" $(($(w glibc) + $(w musl)))
eq "writes at the notify door" "$(ops doors notify write)" $(($(w static) + $(w go)))
eq "writes through the kernel" "$(ops doors fuse write)" 0
eq "the host's view" "$(stat -c %s "$data/many")" "$(pod exec doors stat -c %s /data/many)"
