# SPDX-License-Identifier: Apache-2.0
# The service is killed, or told to end, while static and dynamic programs work on the volume and beside
# it: calls beside the volume go on, calls on it fail, none hangs, and the container can be removed. When
# its guard is killed, the service goes on.
# image: full
# seconds: 240
. "$LIB/case.sh"

gone() { ! pgrep -x 'danausd|danaus-guard' >/dev/null && [ -z "$(ls -A /run/danaus/containers /run/danaus/pools 2>/dev/null | grep -v :)" ]; }
said() { pod logs "$1" 2>&1 | grep -Eq "$2"; } # NAME PATTERN
begin() { # NAME WHAT
	up "$1" -v "$(new_dir "d-$1"):/data" -v "$LIB/../guest/death.sh:/death.sh:ro" $IMAGE_FULL bash /death.sh "$2"
	until_true "$1: its programs" 60 said "$1" '^ready'
}
finish() { # NAME
	pod exec "$1" touch /tmp/killed
	until_true "$1: its programs' answers" 120 said "$1" '^all go on|answer|ended|new one|ls$|went through' || true
	has "$1" "$(pod logs "$1" 2>&1)" '^all go on$'
	down "$1"
	until_true "$1: nothing is left" 20 gone
}
in_call() { # PROCESS-NAME CALL-NUMBER...: waits in one of them
	grep -Eq "^($2) " "/proc/$(pgrep -x "$1")/syscall"
}

begin killed waiters
until_true "the static program waits for its lock" 20 in_call waiter-static 72
for k in glibc musl; do until_true "the $k program waits for its lock" 20 in_call waiter-$k 202; done
kill -KILL "$(pgrep -x danausd)"
until_true "the service's end" 10 sh -c '! pgrep -x danausd'
finish killed

begin stopped nobody
kill -TERM "$(pgrep -x danausd)"
until_true "the service's end" 20 sh -c '! pgrep -x danausd'
finish stopped

# Its guard first: the container has what it had, but for that
data=$(new_dir d-unguarded)
up unguarded -v "$data:/data" $IMAGE_FULL sh -c 'touch /data/ready; exec sleep 1000'
until_true "its program" 20 test -e "$data/ready"
guard=$(pgrep -x danaus-guard)
kill -KILL "$guard"
until_true "the guard's end" 10 grep -q '^State:.Z' "/proc/$guard/status"
eq "without a guard" "$(pod exec unguarded sh -c 'echo cat /data/f > /tmp/c; printf text > /data/f; /probes/probe-static < /tmp/c')" text
down unguarded
until_true "without a guard: nothing is left" 20 gone

# The cgroup that a pool's service has of its own goes with what a killed one leaves
up pooled --annotation danaus.pool=p81 -v "$data:/data" $IMAGE_FULL sleep 1000
groups() { find /sys/fs/cgroup/ -type d -name danaus-p81; }
at_least "the pool's cgroups" "$(groups | wc -l)" 1
kill -KILL "$(pgrep -x danausd)"
until_true "the service's end" 10 sh -c '! pgrep -x danausd'
down pooled
until_true "a pool: nothing is left" 20 gone
eq "the pool's cgroups" "$(groups)" ""
