# SPDX-License-Identifier: Apache-2.0
# podman, crun, the hooks: programs read and write a volume through Danaus.
# image: small full
. "$LIB/case.sh"
. "$LIB/hello.sh"
hello crun

data=$(new_dir full)
up full -v "$data:/data" $IMAGE_FULL sleep 1000
eq "a dynamic program" "$(pod exec full bash -c 'echo dyn > /data/f && cat /data/f')" dyn
at_least "operations at the shared-memory door" "$(ops full shm)" 2
# A process that touches no volume pays one mapping of the mount table: no connection, no descriptor
tell='ls -l /proc/$$/fd; cat /proc/$$/maps'
out=$(pod exec full bash -c "exec 8< /etc/passwd; $tell")
hasnt "descriptors" "$out" '-> (/\.danaus|socket:)'
eq "mappings of the mount table" "$(grep -c '/\.danaus/mounts$' <<<"$out")" 1
hasnt "shared memory" "$out" 'memfd:'
has "a process that touches it" "$(pod exec full bash -c "exec 8> /data/f; $tell")" '-> socket:'
down full
