# SPDX-License-Identifier: Apache-2.0
"""Writes files while the storage fails, and checks them.

faults.py write DIR: until /tmp/stop is there: files of the next generation, each written beside its
name, synced and renamed; an append of a record to a log, synced. "ack NAME GENERATION" when a program
may rely on it, "error NAME ERRNO" when it was told that it may not.
faults.py hold DIR: writes to a file without fsync, waits for /tmp/cut-off, and tells what the next two
fsyncs and the close say, and what is read after a write and an fsync that went well.
faults.py check DIR < what write printed: everything acknowledged is there, every byte is right."""
import errno
import hashlib
import os
import random
import sys
import time

NAMES, RECORD = 12, 256
mode, directory = sys.argv[1:3]


def content(name, generation):
    rng = random.Random(f"{name} {generation}")
    head = f"{name} {generation}\n".encode()
    body = rng.randbytes(rng.choice((100, 5000, 70000, 400000)))
    return head + hashlib.sha256(head + body).hexdigest().encode() + b"\n" + body


def record(generation):
    head = b"%d " % generation
    return head + hashlib.sha256(head).hexdigest().encode().ljust(RECORD - len(head) - 1, b".") + b"\n"


def replace(name, generation):
    path, beside = os.path.join(directory, name), os.path.join(directory, name + ".new")
    with open(beside, "wb") as f:
        f.write(content(name, generation))
        f.flush()
        os.fsync(f.fileno())
    os.rename(beside, path)
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def append(generation):
    fd = os.open(os.path.join(directory, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        assert os.write(fd, record(generation)) == RECORD
        os.fsync(fd)
    finally:
        os.close(fd)


def say(*words):
    print(*words, flush=True)


def write():
    generation = 0
    while not os.path.exists("/tmp/stop"):
        generation += 1
        name = f"file{generation % NAMES}"
        for what, act in ((name, lambda: replace(name, generation)), ("log", lambda: append(generation))):
            try:
                act()
                say("ack", what, generation)
            except OSError as e:
                say("error", what, errno.errorcode[e.errno])
                time.sleep(0.2)
    say("stopped")


def told(act):
    try:
        act()
        return "ok"
    except OSError as e:
        return errno.errorcode[e.errno]


def hold():
    path = os.path.join(directory, "held")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.pwrite(fd, b"lost", 0)
    say("holds")
    while not os.path.exists("/tmp/cut-off"):
        time.sleep(0.1)
    answers = [told(lambda: os.fsync(fd)), told(lambda: os.fsync(fd))]
    os.pwrite(fd, b"kept", 0)
    os.fsync(fd)
    say(*answers, told(lambda: os.close(fd)), open(path).read())


def check():
    acked, records = {}, []
    for line in sys.stdin:
        words = line.split()
        if words[:1] == ["ack"]:
            acked[words[1]] = int(words[2])
            if words[1] == "log":
                records.append(int(words[2]))
    for name in os.listdir(directory):
        if name.endswith(".new") or not name.startswith("file"):
            continue
        data = open(os.path.join(directory, name), "rb").read()
        head = data.split(b"\n", 1)[0].split()
        generation = int(head[1])
        assert data == content(name, generation), f"{name} has wrong bytes"
        assert generation >= acked.get(name, 0), f"{name}: {generation}, but {acked[name]} was synced"
        acked.pop(name, None)
    log = open(os.path.join(directory, "log"), "rb").read()
    acked.pop("log")
    assert not acked, f"missing: {acked}"
    seen = set()
    for at in range(0, len(log), RECORD):
        one = log[at:at + RECORD]
        if not one.strip(b"\0"):  # its writer was told: the MDS has its size, the OSDs not its data
            continue
        generation = int(one.split(b" ", 1)[0] or 0)
        assert one == record(generation), f"the log at {at}: {one[:40]!r}"
        seen.add(generation)
    lost = [g for g in records if g not in seen]
    assert not lost, f"lost records: {lost[:10]}"
    print(f"{len(records)} records, all there")


{"write": write, "hold": hold, "check": check}[mode]()
