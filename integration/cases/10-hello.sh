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
down full
