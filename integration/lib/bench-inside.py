# SPDX-License-Identifier: Apache-2.0
"""bench.sh's measurements, inside the sandbox: every contender's program runs all the time, and
they are asked by turns, operation by operation, so that a slow phase of the machine hits them all.
usage: bench-inside.py SOURCES OUT.json; environment: BENCH_MS, BENCH_ROUNDS, BENCH_CPUS."""
import json
import os
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from contender import Contender

OPERATIONS = """memory-4k pread-4k pwrite-4k read-1m write-1m stat fstat stat-deep stat-missing
    open-close create-unlink small-file rename list-1000 append-100 9-pread-1-pwrite pwrite-fsync
    spawn-true""".split()
IMAGE = "localhost/danaus-full"
VOLUMES_BYTES = 6 << 30
FUSE_EXAMPLE = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c"

here = os.environ["CASE_DIR"]
volumes = here + "/volumes"
milliseconds = os.environ.get("BENCH_MS", "200")
rounds = int(os.environ.get("BENCH_ROUNDS", "5"))
cpus = os.environ.get("BENCH_CPUS", "")
skipped, mounted, named = {}, [], []


def directory(name):
    os.makedirs(f"{volumes}/{name}", exist_ok=True)
    return f"{volumes}/{name}"


def mount_volumes():
    """An ext4 of the usual kind for everybody's files. Without a journal, as on some virtual machines'
    disks, ext4 looks at each inode that was removed in the last minutes before it makes one
    (recently_deleted() of Linux fs/ext4/ialloc.c): 20 to 400 us by who had removed how many before."""
    image = f"{here}/volumes.img"
    with open(image, "w") as f:
        f.truncate(VOLUMES_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image],
                   check=True)
    os.makedirs(volumes)
    loop = subprocess.run(["losetup", "--find", "--show", "--direct-io=on", image], check=True,
                          text=True, capture_output=True).stdout.strip()
    try:
        subprocess.run(["mount", loop, volumes], check=True)
        mounted.append(volumes)
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)  # when it is unmounted


def podman(*args, danaus=False, data=None):
    """The command line that runs a container; a volume of one file is left alone by Danaus."""
    line = ["podman", "--runtime", os.environ.get("RUNTIME", "crun"), "run",
            "--cgroup-parent", os.environ["CASE_CGROUP"], "-v", f"{data}:/data"]
    for program in ("bench", "bench-static"):
        line += ["-v", f"{here}/{program}:/{program}:ro"]
    line += ["--annotation", "danaus=on"] if danaus else []
    line += ["--cpuset-cpus", cpus] if cpus else []
    return line + list(args)


def compile_programs(sources):
    flags = ["gcc", "-O2", "-Wall", "-pthread"]
    for name, static in ("bench", []), ("bench-static", ["-static"]):
        subprocess.run(flags + static + ["-o", f"{here}/{name}", f"{sources}/bench.c"], check=True)
    if not os.path.exists(FUSE_EXAMPLE):
        skipped["fuse"] = "no " + FUSE_EXAMPLE
        return
    fuse = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], check=True, text=True,
                          capture_output=True).stdout.split()
    subprocess.run(flags + ["-w", "-o", f"{here}/passthrough", FUSE_EXAMPLE] + fuse, check=True)


def mount_fuse():
    """libfuse's own passthrough file system; the kernel keeps no names, attributes or data."""
    at = directory("fuse.mnt")
    subprocess.run([f"{here}/passthrough", "-o", f"source={directory('fuse')},cache=never,allow_other",
                    at], check=True)
    mounted.append(at)
    return at


def mount_overlay():
    b = directory("overlay")
    dirs = ",".join(f"{d}={directory('overlay/' + d)}" for d in ("lowerdir", "upperdir", "workdir"))
    at = directory("overlay/merged")
    subprocess.run(["fuse-overlayfs", "-o", dirs, at], check=True, cwd=b)
    mounted.append(at)
    return at


def face(data):
    """A static program that no filter sees: it enters the mounts of a container and has Danaus's
    kernel face only."""
    subprocess.run(podman("-d", "--name", "bench-face", IMAGE, "/bin/sleep", "100000", danaus=True,
                          data=data), check=True, stdout=subprocess.DEVNULL)
    named.append("bench-face")
    pid = subprocess.run(["podman", "inspect", "-f", "{{.State.Pid}}", "bench-face"], check=True,
                         text=True, capture_output=True).stdout.strip()
    pin = ["taskset", "-c", cpus] if cpus else []
    return pin + ["nsenter", "-m", "-t", pid, "/bench-static", "/data"]


def contenders():
    args = ("-i", "--rm", IMAGE)
    yield "bind", podman(*args, "/bench", "/data", data=directory("bind"))
    yield "danaus", podman(*args, "/bench", "/data", danaus=True, data=directory("danaus"))
    yield "danaus-static", podman(*args, "/bench-static", "/data", danaus=True,
                                  data=directory("static"))
    yield "danaus-face", face(directory("face"))
    if "fuse" not in skipped:
        yield "fuse", podman(*args, "/bench-static", "/data", data=mount_fuse())
    if shutil.which("fuse-overlayfs"):
        yield "fuse-overlayfs", podman(*args, "/bench", "/data", data=mount_overlay())


def main():
    sources, out = sys.argv[1:]
    samples = {operation: {} for operation in OPERATIONS + ["container"]}
    compile_programs(sources)
    try:
        mount_volumes()
        all_of_them = [Contender(name, line) for name, line in contenders()]
        for c in all_of_them:
            c.wait_ready()
        for r in range(rounds):
            for operation in OPERATIONS:
                for c in all_of_them[:1] if operation == "memory-4k" else all_of_them:
                    samples[operation].setdefault(c.name, []).append(c.ask(operation, milliseconds))
            print(f"round {r + 1} of {rounds}", file=sys.stderr)
        for c in all_of_them:
            c.end()
        for _ in range(8):
            for name in "bind", "danaus":
                line = podman("--rm", IMAGE, "/bin/true", danaus=name == "danaus", data=directory("start"))
                start = time.monotonic_ns()
                subprocess.run(line, check=True)
                took = float(time.monotonic_ns() - start)
                samples["container"].setdefault(name, []).append([took, took])
    finally:
        for name in named:
            subprocess.run(["podman", "rm", "-f", "-t", "0", name], stdout=subprocess.DEVNULL)
        for at in reversed(mounted):
            subprocess.run(["umount", at])
    with open(out, "w") as f:
        json.dump({"skipped": skipped, "samples": samples}, f)


main()
