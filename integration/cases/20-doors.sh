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
did() { awk -v k="$1" -v op="$2" '$1 == "did" && k ~ $2 && $3 == op { n += $4 } END { print n + 0 }' <<<"$out"; }
for op in write setattr make unlink lock rename link; do
	at_least "$op of a static program" "$(did static $op)" 1
	eq "$op at the shared-memory door" "$(ops doors shm $op)" "$(did 'glibc musl' $op)"
	eq "$op at the notify door" "$(ops doors notify $op)" "$(did 'static go' $op)"
	eq "$op through the kernel" "$(ops doors fuse $op)" 0
done
# what a program asks again and again needs no request, and is counted
pod exec doors python3 -c '
import os
for _ in range(500):
    os.stat("/data/many")
    os.close(os.open("/data/many", os.O_RDONLY))'
for op in stat open close; do
	at_least "$op by leases" "$(ops doors lease $op)" 400
	at_least "$op by the library" "$(($(ops doors lease $op) + $(ops doors shm $op)))" 500
done
eq "the host's view" "$(stat -c %s "$data/many")" "$(pod exec doors stat -c %s /data/many)"
