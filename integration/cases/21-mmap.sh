# SPDX-License-Identifier: Apache-2.0
# Shared mappings from all four kinds of program, coherent with the other doors.
# image: full
. "$LIB/case.sh"

guest=$LIB/../guest/doors.sh
data=$(new_dir data)
up doors -v "$data:/data" -v "$guest:/doors.sh:ro" $IMAGE_FULL sh -c 'bash /doors.sh map; sleep 1000'
until_true "the probes' end" 60 sh -c "podman logs doors 2>&1 | grep -Eq 'all agree|answered|does not answer'" || true
out=$(pod logs doors 2>&1)
say "$out"
has "the probes" "$out" '^all agree$'
at_least "kernel face operations" "$(ops doors fuse)" 4
