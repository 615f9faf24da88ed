# SPDX-License-Identifier: Apache-2.0
# The first things any runtime must do: sourced by 10-hello, 11-runc, 12-runtime.
group_of() { # PROCESS: its cgroup of memory, or that of version 2
	grep -m 1 -E ':([a-z,]*,)?memory(,[a-z,]*)?:' "/proc/$1/cgroup" || grep '^0::' "/proc/$1/cgroup"
}
hello() { # NAME
	local name=$1 data code
	data=$(new_dir "$name")
	echo from-the-host > "$data/in"
	up "$name" -v "$data:/data" $IMAGE_SMALL sh -c 'cat /data/in > /data/first; exec sleep 1000'
	until_true "$name: its first command" 10 test -s "$data/first"
	at_least "$name: operations at the notify door" "$(ops "$name" notify)" 3
	eq "$name: what the host wrote" "$(pod exec "$name" cat /data/in)" from-the-host
	pod exec "$name" sh -c 'mkdir /data/d && echo inside > /data/d/out'
	eq "$name: what the container wrote" "$(cat "$data/d/out")" inside
	has "$name: danausctl list" "$(danausctl list)" "/data = local:$data"
	eq "$name: the service's cgroup" "$(group_of "$(danausctl list --json | jq ".\"$(full_id "$name")\".pid")")" \
		"$(group_of "$(pod inspect -f '{{.State.Pid}}' "$name")")"
	down "$name"
	eq "$name: one command" "$(run -v "$data:/data" $IMAGE_SMALL sh -c 'echo x > /data/f; cat /data/f')" x
	code=0
	run -v "$data:/data" $IMAGE_SMALL sh -c 'exit 7' || code=$?
	eq "$name: its exit code" "$code" 7
}
