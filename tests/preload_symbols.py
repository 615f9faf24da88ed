#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""preload_symbols.py SOURCE_ROOT LIBDANAUS: every file-related symbol of glibc is in exactly one of
interpose.def and passed.def; the library exports what interpose.def says, needs no library and
binds to no version of one. by_number.def has every call of the notify door's syscalls.def that starts
from a descriptor or changes the caller: what it lacks would come to the kernel with a number that
means nothing there."""

import re
import subprocess
import sys

root, library = sys.argv[1:]
intercepted = re.findall(
    r"^(?:(?:CALL|POINT|PLAIN)\([^,]*, *|(?:ALSO|OWN)\()(\w+)", open(f"{root}/preload/interpose.def").read(), re.M
)
passed_text = open(f"{root}/preload/passed.def").read()
passed = re.findall(r"^PASSED\((\w+), (\w+)\)$", passed_text, re.M)
reasons = re.findall(r"^REASON\((\w+), \"[^\"]{20,}\"(?:\s+\"[^\"]+\")*\)$", passed_text, re.M)
wanted = open(f"{root}/tests/libc-file-symbols.txt").read().split()
wrong = []

both = intercepted + [name for name, _ in passed]
wrong += [f"{name} is listed twice" for name in sorted(set(n for n in both if both.count(n) > 1))]
wrong += [f"{name} is in neither table" for name in wanted if name not in both]
wrong += [f"{name} is passed but nobody asked" for name, _ in passed if name not in wanted]
wrong += [f"{name}: no such reason {reason}" for name, reason in passed if reason not in reasons]

numbers = re.findall(r"^NUMBER\((\w+),", open(f"{root}/preload/by_number.def").read(), re.M)
calls = re.findall(r"^SC\((\w+), (\w+),", open(f"{root}/danaus/notify/syscalls.def").read(), re.M)
wrong += [f"{name} is not in by_number.def" for name, when in calls if when != "PATH" and name not in numbers]
wrong += [f"{name} is twice in by_number.def" for name in set(n for n in numbers if numbers.count(n) > 1)]


def readelf(*options):
    return subprocess.run(
        ["readelf", "-W", *options, library], check=True, capture_output=True, text=True
    ).stdout


exported, undefined = set(), set()
for line in readelf("--dyn-syms").splitlines():
    field = line.split()
    if len(field) >= 8 and field[0][:-1].isdigit() and field[4] in ("GLOBAL", "WEAK"):
        (undefined if field[6] == "UND" else exported).add(field[7])
        if "@" in field[7]:
            wrong.append(f"{field[7]} is bound to a version")
wrong += [f"{name} is not exported" for name in set(intercepted) - exported]
wrong += [f"{name} is exported without being listed" for name in exported - set(intercepted)]
wrong += [f"{name} comes from outside" for name in
          undefined - {"__errno_location", "dlsym", "_r_debug", "environ"}]
dynamic = readelf("--dynamic")
wrong += [f"{tag} in the dynamic section" for tag in ("NEEDED", "VERNEED", "(INIT", "TEXTREL")
          if tag in dynamic]
print("\n".join(wrong) or f"{len(wanted)} symbols: {len(intercepted)} names intercepted, {len(passed)} passed")
sys.exit(1 if wrong else 0)
