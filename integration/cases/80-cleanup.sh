# SPDX-License-Identifier: Apache-2.0
# After podman rm -f, and after kill -9 of the program, of the first process, of podman, of conmon, of crun
# in the middle of its create, of the service itself and of everything in the cgroup: no process, mount,
# cgroup, socket, memory file or lock is left. (The sandbox looks for leftovers after each case; this one
# asks after each death.)
# image: full
# seconds: 240
. "$LIB/case.sh"

gone() { ! pgrep -x danausd >/dev/null && [ -z "$(ls -A /run/danaus/containers 2>/dev/null)" ] && [ -z "$(ls -A /run/danaus/pools 2>/dev/null)" ]; }
busy='exec 9> /data/held; flock 9; (while :; do date > /data/d; done) & python3 -c "
import mmap, os, time
f = open(\"/data/m\", \"wb+\"); f.truncate(65536); m = mmap.mmap(f.fileno(), 0); m[0] = 1
import fcntl; fcntl.lockf(f, fcntl.LOCK_EX)
open(\"/data/ready\", \"w\").close()
while True: m[1] = 2; f.seek(0); f.write(b\"x\" * 4096); f.flush()
"; sleep 1000'
begin() { # NAME
	data=$(new_dir "d-$1")
	rm -f "$data/ready"
	up "$1" -v "$data:/data" $IMAGE_FULL bash -c "$busy"
	until_true "$1: the programs" 20 test -e "$data/ready"
}

begin rm
pod rm -f -t 0 rm > /dev/null
until_true "after podman rm -f" 20 gone

begin stop
pod stop -t 1 stop > /dev/null 2>&1
until_true "after podman stop" 20 gone
down stop

begin first
kill -KILL "$(pod inspect -f '{{.State.Pid}}' first)"
until_true "after kill -9 of the first process" 20 gone
down first

begin program # a client dies in mid-call: its locks go, the others go on
for p in $(pgrep -x python3); do kill -KILL "$p"; done
until_true "its lock is free" 10 pod exec program python3 -c \
	'import fcntl; fcntl.lockf(open("/data/m", "rb+"), fcntl.LOCK_EX | fcntl.LOCK_NB)'
down program
until_true "after kill -9 of a program" 20 gone

data=$(new_dir d-podman)
run --name podman -v "$data:/data" $IMAGE_FULL bash -c "$busy" &
until_true "podman: the programs" 20 test -e "$data/ready"
kill -KILL $!
wait $! 2>/dev/null || true
down podman
until_true "after kill -9 of podman" 20 gone

begin service # programs get errors, nothing hangs, the container can be removed
kill -KILL "$(pgrep -x danausd)"
until_true "the service's end" 10 sh -c '! pgrep -x danausd'
out=$(timeout 20 podman exec service ls /data 2>&1) && fail "ls went through without a service: $out"
down service
until_true "after kill -9 of the service" 20 gone

# One whose threads wait for its own kernel face when it dies: they cannot end by themselves. Its face's
# threads are held back when they answer, until it is one of its own that waits.
begin stuck
service=$(pgrep -x danausd)
threads() { # CALL WAITS-FOR: one of its threads in that call (a number)
	for t in /proc/"$service"/task/*; do
		if grep -Eq "^($1) " "$t/syscall" && grep -Eq "$2" "$t/wchan"; then return 0; fi
	done 2> /dev/null
	return 1
}
caught() {
	strace -f -o "$CASE_DIR/trace" -p "$service" -P /dev/fuse -e trace=writev -e inject=writev:delay_enter=100s &
	tracer=$!
	until_true "an answer that is held back" 20 threads 20 ptrace_stop
	threads '295|296' 'request_wait_answer|fuse_simple_request|folio_wait' && return # preadv, pwritev
	kill "$tracer"
	wait "$tracer"
	return 1
}
until_true "a thread of the service waits for its own face" 60 caught
kill -KILL "$service" "$tracer" # in this order: nobody is let go in between
wait "$tracer" || true
until_true "its end" 20 sh -c '! pgrep -x danausd'
down stuck
until_true "after kill -9 of a service in the middle of its work" 20 gone

begin together # all that is in the container's cgroup at once, as a runtime or the kernel may do it
service=$(pgrep -x danausd)
memory=$(grep -E ':([a-z,]*,)?memory(,[a-z,]*)?:' "/proc/$service/cgroup" | cut -d: -f3)
kill -STOP "$service"
# shellcheck disable=SC2046
kill -KILL $(cat "/sys/fs/cgroup/memory$memory/cgroup.procs")
until_true "its end" 20 sh -c '! pgrep -x danausd'
down together
until_true "after kill -9 of all at once" 20 gone

begin conmon # podman 4 forgets the low-level runtime's part then, of any container: cgroups, hooks
id=$(full_id conmon)
kill -KILL "$(pod inspect -f '{{.ConmonPidFile}}' conmon | xargs cat)"
down conmon
until_true "the service's end after kill -9 of conmon" 20 sh -c '! pgrep -x danausd'
crun delete -f "$id" 2> /dev/null || true
until_true "after kill -9 of conmon" 20 gone

# The low-level runtime in the middle of its create: it waits for our hook, and that for a pool's lock
data=$(new_dir d-create)
mkdir -p -m 700 /run/danaus/pools/held
exec 9> /run/danaus/pools/held/lock
flock 9
run --name create --annotation danaus.pool=held -v "$data:/data" $IMAGE_FULL sleep 1000 9>&- > create.log 2>&1 &
until_true "the hook waits" 20 pgrep -f 'danaus-hook createRuntime'
kill -KILL "$(pgrep -o -x crun)"
wait $! && fail "it started without its runtime"
exec 9>&-
until_true "the hook's end" 20 sh -c '! pgrep -f "[d]anaus-hook createRuntime"'
down create
# what the killed runtime made and forgets, of any container
find /sys/fs/cgroup/ -mindepth 2 -depth -type d -path "*$CASE_CGROUP/libpod-*" -exec rmdir {} \; 2> /dev/null || true
run -v "$data:/data" $IMAGE_FULL true
until_true "after kill -9 of crun" 20 gone
