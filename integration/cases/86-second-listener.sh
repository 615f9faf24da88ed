# SPDX-License-Identifier: Apache-2.0
# Another agent listens to the container's system calls already (a seccomp profile with a listenerPath):
# the kernel has room for one. A warning, and the container runs on the other doors.
# image: small full
. "$LIB/case.sh"
data=$(new_dir data)

# podman 4.3 hands no listenerPath on: a runtime that adds it, and the agent
cat > "$CASE_DIR/runtime" <<-'R'
	#!/bin/bash
	for ((i = 1; i < $#; i++)); do [ "${!i}" = --bundle ] && j=$((i + 1)) && bundle=${!j}; done
	if [ -n "$bundle" ]; then
		jq --arg path "$(dirname "$0")/agent" '.linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW",
			listenerPath: $path, syscalls: [{names: ["acct"], action: "SCMP_ACT_NOTIFY"}]}' \
			"$bundle/config.json" > "$bundle/config.new" && cat "$bundle/config.new" > "$bundle/config.json"
	fi
	exec crun "$@"
R
chmod 755 "$CASE_DIR/runtime"
/usr/bin/python3 - "$CASE_DIR" <<-'P' &
	import array, os, socket, sys
	s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
	s.bind(sys.argv[1] + "/agent")
	s.listen(8)
	held = []
	while True:
	    c = s.accept()[0]
	    for _, _, fds in c.recvmsg(65536, 4096)[1]:
	        held += array.array("i", fds)
	        open(sys.argv[1] + "/heard", "a").write("listener\n")
P
agent=$!
until_true "the agent" 30 test -S "$CASE_DIR/agent"
RUNTIME=$CASE_DIR/runtime
for image in $IMAGE_SMALL $IMAGE_FULL; do
	name=${image##*-}
	up "$name" -v "$data:/data" "$image" sh -c "echo $name > /data/f; cat /data/f > /data/$name; exec sleep 1000"
	until_true "$name: its program" 20 test -s "$data/$name"
	eq "$name: what it wrote" "$(cat "$data/$name")" "$name"
	has "$name: the warning" "$(pod logs "$name" 2>&1)" 'another agent listens.*going on without the notify door'
	eq "$name: operations at the notify door" "$(ops "$name" notify)" 0
	eq "$name: an exec" "$(pod exec "$name" cat /data/f 2> /dev/null)" "$name"
done
at_least "static: operations of the kernel face" "$(ops small fuse)" 3
at_least "dynamic: operations through shared memory" "$(ops full shm)" 3
at_least "the agent's listeners" "$(wc -l < "$CASE_DIR/heard")" 2
down small full
kill $agent
