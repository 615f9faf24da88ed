# SPDX-License-Identifier: Apache-2.0
# Shared mappings from all four kinds of program, coherent with the other doors.
# image: full
. "$LIB/case.sh"

guest=$LIB/../guest/doors.sh
data=$(new_dir data)
up doors -v "$data:/data" -v "$guest:/doors.sh:ro" $IMAGE_FULL sleep 1000
out=$(pod exec doors bash /doors.sh map)
say "$out"
has "the probes" "$out" '^all agree$'
at_least "kernel face operations" "$(ops doors fuse)" 4
