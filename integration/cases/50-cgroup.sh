# SPDX-License-Identifier: Apache-2.0
# The service's cgroup, CPUs, memory and CPU time are the container's, as the kernel tells it.
# image: full
. "$LIB/case.sh"
data=$(new_dir data)
up c --cpuset-cpus 0 --memory 300m -v "$data:/data" $IMAGE_FULL sleep 1000
service=$(pgrep -x danausd)
init=$(pod inspect -f '{{.State.Pid}}' c)
eq "services" "$(wc -w <<<"$service")" 1
for controller in memory cpu cpuacct cpuset; do
	eq "cgroup of $controller" "$(grep -E ":([a-z,]*,)?$controller(,[a-z,]*)?:" "/proc/$service/cgroup" | cut -d: -f3)" \
		"$(grep -E ":([a-z,]*,)?$controller(,[a-z,]*)?:" "/proc/$init/cgroup" | cut -d: -f3)"
done
cg=$(grep -E ':([a-z,]*,)?cpuacct' "/proc/$service/cgroup" | cut -d: -f3)
has "the container's cgroup" "$cg" "libpod-$(full_id c)"
for t in /proc/"$service"/task/*; do eq "CPUs of a thread" "$(sed -n 's/^Cpus_allowed_list:\t//p' "$t/status")" 0; done
eq "danausctl list: CPUs" "$(danausctl list --json | jq -r '[.. | objects | .cpus? // empty][0]')" 0

eq "danausctl list: lines of the container's group" "$(danausctl list | grep -c '^  cgroup .*/libpod-')" 1

usage() { cat "/sys/fs/cgroup/cpuacct$cg/cpuacct.usage"; }
service_ns() { awk '{ print ($14 + $15) * 10000000 }' "/proc/$service/stat"; }
u=$(usage) s=$(service_ns)
pod exec c bash -c 'for i in $(seq 300); do dd if=/dev/zero of=/data/f bs=64k count=16 conv=notrunc status=none; done'
s=$(($(service_ns) - s)) u=$(($(usage) - u))
at_least "CPU time of the service" "$s" 10000000
at_least "CPU time of the container's cgroup beside the service's" "$u" "$s"
grep -qx "$service" "/sys/fs/cgroup/memory$cg/cgroup.procs"
eq "the memory limit" "$(cat "/sys/fs/cgroup/memory$cg/memory.limit_in_bytes")" $((300 << 20))

pod update --cpuset-cpus 1 c > /dev/null
until_true "the service follows to other CPUs" 5 \
	sh -c "for t in /proc/$service/task/*; do grep -qx 'Cpus_allowed_list:	1' \$t/status || exit 1; done"
eq "still serving" "$(pod exec c sh -c 'echo x > /data/g; cat /data/g')" x
down c

up d --annotation danaus.cpus=1 -v "$data:/data" $IMAGE_FULL sleep 1000
service=$(pgrep -x danausd)
eq "danaus.cpus" "$(sed -n 's/^Cpus_allowed_list:\t//p' "/proc/$service/status")" 1
eq "still serving" "$(pod exec d cat /data/g)" x
down d

up e1 --annotation danaus.pool=shared -v "$data:/data" $IMAGE_FULL sleep 1000
up e2 --annotation danaus.pool=shared -v "$data:/data" $IMAGE_FULL sleep 1000
eq "one service for a pool" "$(pgrep -cx danausd)" 1
pod exec e1 sh -c 'echo one > /data/p'
eq "the other container sees it" "$(pod exec e2 cat /data/p)" one
down e1
eq "and goes on alone" "$(pod exec e2 sh -c 'echo two >> /data/p; cat /data/p | wc -l')" 2
down e2
