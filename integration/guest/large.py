# SPDX-License-Identifier: Apache-2.0
"""More bytes than the container's memory through a cache that would hold all of them.

large.py write DIR: writes files and reads them; "ack N" when file N is synced, "all read" at the end.
large.py check DIR < what write printed: what was acknowledged is there, and right."""
import os
import sys

FILES, SIZE = 40, 4 << 20
mode, directory = sys.argv[1:]


def check(n):
    with open(f"{directory}/f{n}", "rb") as f:
        assert f.read() == bytes([n]) * SIZE, f"f{n} has wrong bytes"


if mode == "write":
    for n in range(FILES):
        with open(f"{directory}/f{n}", "wb") as f:
            f.write(bytes([n]) * SIZE)
            f.flush()
            os.fsync(f.fileno())
        print("ack", n, flush=True)
    for n in range(FILES):
        check(n)
    print("all read")
else:
    acks = [int(line.split()[1]) for line in sys.stdin if line.startswith("ack")]
    assert len(acks) >= 5, acks
    for n in acks:
        check(n)
    print(len(acks), "files are there")
