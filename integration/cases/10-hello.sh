# SPDX-License-Identifier: Apache-2.0
# podman, crun, the hooks: a program reads and writes a volume through Danaus.
# image: small
. "$LIB/case.sh"

data=$(new_dir data)
echo from-the-host > "$data/in"
up hello -v "$data:/data" $IMAGE_SMALL sleep 1000
eq "what the host wrote" "$(pod exec hello cat /data/in)" from-the-host
pod exec hello sh -c 'mkdir /data/d && echo inside > /data/d/out'
eq "what the container wrote" "$(cat "$data/d/out")" inside
at_least "operations at the notify door" "$(ops hello notify)" 3
eq "volumes of danausctl list" "$(danausctl list | grep -c ' /data')" 1
down hello

data2=$(new_dir data2)
out=$(run -v "$data2:/data" $IMAGE_SMALL sh -c 'echo x > /data/f; cat /data/f')
eq "one command" "$out" x
code=0
run -v "$data2:/data" $IMAGE_SMALL sh -c 'exit 7' || code=$?
eq "its exit code" "$code" 7
