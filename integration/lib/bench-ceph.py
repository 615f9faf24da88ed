# SPDX-License-Identifier: Apache-2.0
"""Measures and prints what `bench.sh ceph` compares. usage: bench-ceph.py OUT.json CEPH-FUSE UNIONFS
(mount points; "" when there is none). Environment: BENCH_MS, BENCH_ROUNDS, BENCH_ONLY, CASE_DIR, CASE_CGROUP."""
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import neighbour
from contender import Contender

OPERATIONS = """stat open-close append-100 pwrite-4k pread-4k read-1m write-1m create-unlink small-file
    rename list-1000 pwrite-fsync""".split()
TARGETS = {"stat": 10, "open-close": 10, "append-100": 10, "pwrite-4k": 10, "mix": 3}
IMAGE = "localhost/danaus-full"
DB = ["fillrandom", "readrandom", "overwrite"]

here = os.environ["CASE_DIR"]
milliseconds = os.environ.get("BENCH_MS", "200")
rounds = int(os.environ.get("BENCH_ROUNDS", "3"))
out, fuse, unionfs = sys.argv[1:]
skipped = {}


def volumes():
    if fuse:
        yield "ceph-fuse", ["-v", f"{fuse}:/data"]
    else:
        skipped["ceph-fuse"] = "the package ceph-fuse is not installed"
    if unionfs:
        yield "unionfs-fuse", ["-v", f"{unionfs}:/data"]
    else:
        skipped["unionfs-fuse"] = "the package unionfs-fuse is not installed"
    for name, source in (("danaus-ceph", "ceph:/tenants/a/ceph"),
                         ("danaus-cache", "cache:[ceph:/tenants/a/cache]"),
                         ("danaus-union", "union:[ceph:/tenants/a/union;rw][ceph:/base;ro]")):
        yield name, ["--annotation", "danaus=on", "--annotation", f"danaus.mount=/data={source};id=tenant-a"]


def podman(volume, *command, files=("bench", "mix"), options=()):
    line = ["podman", "--runtime", os.environ.get("RUNTIME", "crun"), "run", "--rm", "-i",
            "--cgroup-parent", os.environ["CASE_CGROUP"], *volume, *options]
    for f in files:
        line += ["-v", f"{f if f[0] == '/' else here + '/' + f}:/{os.path.basename(f) if f[0] != '/' else f[1:]}:ro"]
    return line + [IMAGE, *command]


def start(name, volume, pin=()):
    contender = Contender(name, podman(volume, "/bench", "/data", options=pin))
    contender.wait_ready()
    return contender


def memory():
    """Mebibytes of each service or client, by name of the program."""
    found = {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            name = open(f"/proc/{p}/comm").read().strip()
            if name in ("danausd", "ceph-fuse", "unionfs"):
                rss = re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{p}/status").read())
                found.setdefault(name, []).append(int(rss[1]) // 1024)
        except OSError:
            continue
    return found


def operations(samples):
    programs = [start(n, v) for n, v in volumes()]
    for _ in range(rounds):
        for operation in OPERATIONS:
            for p in programs:
                samples.setdefault(operation, {}).setdefault(p.name, []).append(p.ask(operation, milliseconds)[0])
    used = memory()
    for p in programs:
        p.end()
    return used


def beside_a_neighbour():
    """Everybody on CPU 0; the neighbour's disk is the one that a bind volume is on."""
    with tempfile.TemporaryDirectory(dir=here) as bind, tempfile.TemporaryDirectory(dir=here) as disk:
        programs = [start(n, v, ["--cpuset-cpus", str(neighbour.TENANT)])
                    for n, v in [*volumes(), ("bind", ["-v", f"{bind}:/data"])]]
        results = neighbour.measure(programs, disk, rounds, int(milliseconds))
        for p in programs:
            p.end()
    return results


def mix(samples):
    for _ in range(rounds):
        for name, volume in volumes():
            subprocess.run(podman(volume, "sh", "-c", "rm -rf /data/mix; mkdir /data/mix"), check=True)
            done = subprocess.run(podman(volume, "/mix", "/data/mix", os.environ.get("BENCH_FILES", "400"), "3"),
                                  check=True, stdout=subprocess.PIPE, text=True).stdout
            samples.setdefault("mix", {}).setdefault(name, []).append(1e9 / float(done))


def rocksdb(samples):
    program = shutil.which("db_bench")
    if not program:
        skipped["db_bench"] = "the package rocksdb-tools is not installed"
        return
    libraries = re.findall(r"=> (/\S+)", subprocess.run(["ldd", program], text=True, capture_output=True).stdout)
    missing = [x for x in libraries if re.search("rocksdb|gflags|snappy|lz4|zstd|bz2|tbb|uring|jemalloc", x)]
    for name, volume in volumes():
        text = subprocess.run(podman(volume, program, "--db=/data/db", "--benchmarks=" + ",".join(DB), "--num=20000",
                                     "--value_size=400", "--histogram=1", "--compression_type=none", "--threads=1",
                                     files=[program, *missing]), check=True, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
        for b in DB:
            row = re.search(rf"^{b}\s+:\s+([\d.]+) micros/op", text, re.M)
            p99 = re.search(rf"^{b}\s.*?P99: ([\d.]+)", text, re.M | re.S)
            samples.setdefault(f"db-{b}", {})[name] = [float(row[1]) * 1000]
            samples.setdefault(f"db-{b}-p99", {})[name] = [float(p99[1]) * 1000]


def tell(samples, names):
    """What was measured but the neighbour, as JSON has it."""
    print("ns per operation, median of rounds; in brackets how many times faster than ceph-fuse, the\n"
          "median over the rounds. mix: a file server's work, 4 threads; db-: RocksDB's db_bench.\n")
    print(f"{'operation':20}" + "".join(f"{n:>22}" for n in names))
    results = {}
    for o, row in samples.items():
        cells = []
        for n in names:
            ns = statistics.median(row[n])
            times = statistics.median(a / b for a, b in zip(row["ceph-fuse"], row[n])) if fuse else 0
            results.setdefault(o, {})[n] = {"ns": ns, "faster": times}
            cells.append(f"{ns:,.0f} ({times:.1f})")
        missed = fuse and o in TARGETS and results[o]["danaus-ceph"]["faster"] < TARGETS[o]
        print(f"{o:20}" + "".join(f"{c:>22}" for c in cells) + (f"  missed: {TARGETS[o]}" if missed else ""))
    return results


def main():
    samples, used, slower = {}, {}, {}
    wanted = os.environ.get("BENCH_ONLY") or "operations mix rocksdb neighbour"
    names = [n for n, _ in volumes()]
    if "operations" in wanted:
        used = operations(samples)
    if "mix" in wanted:
        mix(samples)
    if "rocksdb" in wanted:
        rocksdb(samples)
    results = tell(samples, names) if samples else {}
    if "neighbour" in wanted and os.cpu_count() > 1:
        slower = beside_a_neighbour()
        neighbour.tell(slower)
    if used:
        print("MiB resident: " + ", ".join(f"{n} {' '.join(map(str, m))}" for n, m in used.items()))
    for who, why in skipped.items():
        print(f"{who}: not measured: {why}")
    with open(out, "w") as f:
        json.dump({"operations": results, "neighbour": slower, "mib": used, "skipped": skipped}, f, indent=1)


main()
