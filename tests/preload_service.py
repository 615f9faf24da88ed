#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""preload_service.py FSOPS CANCEL ROOTS LEASES NAMES POSITIONS MAPPINGS STRESS MAPS SOURCE_ROOT WITH_SERVICE DANAUSD
LIBDANAUS INIT: what the programs before STRESS print on a volume, with and without the notify door, under glibc and
musl, is what they print on a plain directory; and stress and maps, which check themselves, find nothing. Exit code 77
where that cannot be tried."""

import difflib
import os
import resource
import shutil
import subprocess
import sys
import tempfile

fsops, cancel, roots, leases, names, positions, mappings, stress, maps, source, with_service, *parts = sys.argv[1:]
if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
    print("needs root and /dev/fuse")
    sys.exit(77)
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if hard < 18100:
    print(f"needs a RLIMIT_NOFILE above 18100, not {hard}")
    sys.exit(77)
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))


def output(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    if done.returncode:
        print(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return done.returncode, done.stdout.splitlines()


with tempfile.TemporaryDirectory() as tmp:
    programs = [fsops, cancel, roots, leases, names, positions, mappings]
    if shutil.which("musl-gcc"):
        for name in "fsops", "cancel", "roots", "leases", "names", "positions", "mappings":
            programs.append(f"{tmp}/{name}-musl")
            subprocess.run(["musl-gcc", "-w", "-O1", f"{source}/tests/prog/{name}.c", "-o", programs[-1]], check=True)
    failed = False
    for number, program in enumerate(programs):
        plain = f"{tmp}/plain-{number}"
        os.mkdir(plain)
        code, expected = output([program, plain])
        failed |= code != 0
        for options in ([], ["-n"]):
            behind, volume = tempfile.mkdtemp(dir=tmp), tempfile.mkdtemp(dir=tmp)
            forks = ["forks"] if "positions" in program and not options else []
            code, got = output([with_service, *options, *parts, f"{volume}=local:{behind}", "--", program, volume, *forks])
            failed |= code != 0 or got != expected
            for line in difflib.unified_diff(expected, got, "plain", f"{program} {options}", n=1, lineterm=""):
                print(line)
    # where something shows programs a time that stands still
    with open(f"{tmp}/clock.c", "w") as clock:
        clock.write("int clock_gettime(int id, long *ts) { ts[0] = 1000; ts[1] = 0; return 0; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", f"{tmp}/clock.c", "-o", f"{tmp}/clock.so"], check=True)
    behind, volume = tempfile.mkdtemp(dir=tmp), tempfile.mkdtemp(dir=tmp)
    code, _ = output([with_service, *parts, f"{volume}=local:{behind}", "--", "sh", "-c",
                      f'LD_PRELOAD="$LD_PRELOAD {tmp}/clock.so" exec {leases} {volume} {behind}'])
    failed |= code != 0
    for options in ([], ["-n"]):
        behind, volume = tempfile.mkdtemp(dir=tmp), tempfile.mkdtemp(dir=tmp)
        code, _ = output([with_service, *options, *parts, f"{volume}=local:{behind}", "--", stress, volume, "60"])
        failed |= code != 0
    for _ in range(5):
        behind, volume = tempfile.mkdtemp(dir=tmp), tempfile.mkdtemp(dir=tmp)
        code, _ = output([with_service, *parts, f"{volume}=local:{behind}", "--", maps, volume])
        failed |= code != 0
sys.exit(failed)
