# SPDX-License-Identifier: Apache-2.0
"""The neighbour of `bench.sh ceph`: measures what programs lose beside a tenant who writes and fsyncs through
the kernel's file system on the other CPU. usage, as the neighbour himself: neighbour.py FILE"""
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True

OPERATIONS = ["stat", "append-100", "pwrite-4k", "create-unlink", "pwrite-fsync"]
MOST = 1.15  # times as long, for Danaus
DAEMONS = ("ceph-mon", "ceph-mgr", "ceph-osd", "ceph-mds")
TENANT, OTHER = 0, 1  # CPUs
CLUSTERS = set(range(2, os.cpu_count())) or {OTHER}  # when it is apart
HERE_TOO = ("ceph-fuse", "danaus-ceph", "bind")

NOTE = f"""How many times as long an operation takes beside a neighbour that writes and fsyncs 16 MiB again and
again through the kernel's file system, as fast as he can, on CPU {OTHER}; in brackets the MiB/s that he got
meanwhile. Containers have CPU {TENANT}, and Danaus's services with them; ceph-fuse and unionfs-fuse, the host's
own, run where they like. bind: a directory on the neighbour's disk. Alone and beside by turns, so that what
a client has buffered is the same in both: the median over the rounds of the ratio of means, in which stalls
count. Alone, a program of the lowest class keeps CPU {OTHER} from going to sleep: waking it, which is slow in a
virtual machine, would be to the neighbour's credit. The cluster's files are in memory, where no fsync of
his reaches them.
"""
CLUSTER = {
    "apart": f"""The cluster stands for other machines: its daemons have CPU {' '.join(map(str, sorted(CLUSTERS)))} before anybody else (SCHED_RR) and no other
one, alone and beside, for every client.""",
    "here": "The cluster as other programs of this machine: it, the host's clients and the neighbour share the CPUs.",
}


def threads_of(names):
    for p in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{p}/comm") as comm:
            if comm.read().strip() in names:
                yield from map(int, os.listdir(f"/proc/{p}/task"))


def set_cluster_apart():
    for thread in threads_of(DAEMONS):  # those that they make later inherit it
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread, CLUSTERS)
            os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(1))


class Beside:
    """What is on the other CPU: the neighbour, or nobody but who keeps it awake."""

    def __init__(self, disk):
        def place():
            os.setsid()
            os.sched_setaffinity(0, {OTHER})
            if not disk:
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
                with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as f:
                    f.write("19")  # the class is one among the session's processes only
        line = [sys.executable, __file__, f"{disk}/file"] if disk else ["sh", "-c", "echo; while :; do :; done"]
        self.process = subprocess.Popen(line, preexec_fn=place, stdout=subprocess.PIPE)
        self.process.stdout.readline()

    def written(self):
        with open(f"/proc/{self.process.pid}/io") as f:
            return int(f.read().split("wchar: ")[1].split()[0])

    def end(self):
        self.process.kill()
        self.process.wait()


def sample(program, operation, milliseconds, disk):
    """Nanoseconds, and MiB/s of the neighbour."""
    beside = Beside(disk)
    program.ask(operation, milliseconds)  # what was buffered before is flushed meanwhile
    start, written = time.monotonic(), beside.written()
    mean = program.ask(operation, 2 * milliseconds)[2]
    rate = (beside.written() - written) / (time.monotonic() - start) / 2**20
    beside.end()
    return mean, rate


def woken_us(disk, n=2000):
    """How long a thread of a daemon waits for its CPU when a message comes, on average."""
    beside = Beside(disk)
    ask, answer = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.sched_setaffinity(0, CLUSTERS)
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        while True:
            os.write(answer[1], b"%20d" % (int(os.read(ask[0], 20)) - time.monotonic_ns()))
    waited = 0
    for _ in range(n):
        time.sleep(0.0005)
        os.write(ask[1], b"%20d" % time.monotonic_ns())
        waited -= int(os.read(answer[0], 20))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for end in *ask, *answer:
        os.close(end)
    beside.end()
    return waited / n / 1000


def measure_all(programs, disk, rounds, milliseconds):
    """{operation: {program: {"ns": alone, "slower": times, "mib_s": of the neighbour}}}"""
    pairs = {o: {p.name: [] for p in programs} for o in OPERATIONS}
    for r in range(rounds):
        for o in OPERATIONS:
            for p in programs:
                got = {d: sample(p, o, milliseconds, d) for d in (("", disk) if r % 2 else (disk, ""))}
                pairs[o][p.name].append((got[""][0], *got[disk]))
    return {o: {name: {"ns": statistics.median(alone for alone, _, _ in got),
                       "slower": statistics.median(beside / alone for alone, beside, _ in got),
                       "mib_s": statistics.median(rate for _, _, rate in got)}
                for name, got in row.items()} for o, row in pairs.items()}


def measure(programs, disk, rounds, milliseconds):
    here = measure_all([p for p in programs if p.name in HERE_TOO], disk, rounds, milliseconds)
    set_cluster_apart()
    apart = measure_all(programs, disk, rounds, milliseconds)
    return {"apart": apart, "here": here, "woken_us": {"alone": woken_us(""), "beside": woken_us(disk)}}


def tell(results):
    print("\n" + NOTE)
    for cluster, note in CLUSTER.items():
        names = list(results[cluster][OPERATIONS[0]])
        print(note + "\n" + f"{'':20}" + "".join(f"{n:>16}" for n in names))
        for o, row in results[cluster].items():
            cells = "".join(f"{row[n]['slower']:9.2f} ({row[n]['mib_s']:4.0f})" for n in names)
            missed = cluster == "apart" and row["danaus-ceph"]["slower"] > MOST
            print(f"{o:20}" + cells + (f"  missed: {MOST}" if missed else ""))
        if cluster == "apart":
            print("A daemon's thread has its CPU {alone:.0f} us after a message alone, {beside:.0f} us beside: "
                  "other machines' would not wait.".format(**results["woken_us"]))
        print()


def write(path):
    block = bytes(1 << 16)
    print(flush=True)
    while True:
        file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        for _ in range(256):
            os.write(file, block)
        os.fsync(file)
        os.close(file)


if __name__ == "__main__":
    write(sys.argv[1])
