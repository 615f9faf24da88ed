# SPDX-License-Identifier: Apache-2.0
"""Two programs, each with a service of its own, on one directory, as on two hosts.

hosts.py agent DIR: does what the lines of its input say and answers in one line.
hosts.py drive COMMAND...: starts COMMAND twice, as agents, and checks what each sees of the other.
hosts.py opens COMMAND...: only that each reads at its next open what the other has closed; this at once,
also where each has a cache.

Data and locks are coherent at once; names and attributes within a second, for which is waited."""
import fcntl
import json
import os
import subprocess
import sys
import time

RECORD, TURNS, WAIT = 64, 100, 30


class Agent:
    """In the container."""

    def __init__(self, directory):
        os.chdir(directory)
        self.files = {}

    def open(self, key, name, flags):
        self.files[key] = os.open(name, flags | os.O_CREAT, 0o644)

    def close(self, key):
        os.close(self.files.pop(key))

    def write(self, key, text, at):
        return os.pwrite(self.files[key], text.encode(), at)

    def read(self, key):
        return os.pread(self.files[key], 1 << 16, 0).decode()

    def whole(self, name):
        try:
            with open(name) as f:
                return f.read()
        except FileNotFoundError:
            return None

    def put(self, name, text):
        with open(name, "w") as f:
            f.write(text)

    def rename(self, old, new):
        os.rename(old, new)

    def size(self, name):
        return os.stat(name).st_size

    def lock(self, key, how):
        """How: a fcntl(2) or flock(2) lock; whether it was given."""
        try:
            (fcntl.lockf if how == "fcntl" else fcntl.flock)(self.files[key], fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            return False

    def unlock(self, key, how):
        (fcntl.lockf if how == "fcntl" else fcntl.flock)(self.files[key], fcntl.LOCK_UN)

    def count(self, name, how, who):
        """Reads, adds one and appends a record, under a lock, again and again."""
        lock = fcntl.lockf if how == "fcntl" else fcntl.flock
        fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
        log = os.open(name + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for turn in range(TURNS):
            lock(fd, fcntl.LOCK_EX)
            n = int(os.pread(fd, 16, 0) or b"0")
            os.pwrite(fd, b"%015d\n" % (n + 1), 0)
            os.write(log, f"{who} {turn}".ljust(RECORD - 1).encode() + b"\n")
            lock(fd, fcntl.LOCK_UN)
        os.close(fd)
        os.close(log)


def agent(directory):
    me = Agent(directory)
    print("ready", flush=True)
    for line in sys.stdin:
        what, *args = json.loads(line)
        try:
            answer = [getattr(me, what)(*args)]
        except OSError as e:
            answer = [None, str(e)]
        print(json.dumps(answer), flush=True)


class Host:
    """The other side of an agent."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def begin(self, *what):
        print(json.dumps(what), file=self.process.stdin, flush=True)

    def end(self):
        answer = json.loads(self.process.stdout.readline())
        assert len(answer) == 1, answer
        return answer[0]

    def __call__(self, *what):
        self.begin(*what)
        return self.end()


def soon(what, ask, wanted):
    end = time.monotonic() + WAIT
    while (got := ask()) != wanted:
        assert time.monotonic() < end, f"{what}: {got!r}, not {wanted!r}"
        time.sleep(0.05)


def end(*hosts):
    for host in hosts:
        host.process.stdin.close()
        assert host.process.wait() == 0
    print("they agree")


def opens(command):
    a, b = Host(command), Host(command)
    a("put", "same", "number 000")
    for i in range(1, 60):
        writer, reader = (a, b) if i % 2 else (b, a)
        for n in i - 1, i:
            if n == i:
                writer("put", "same", f"number {n:03d}")
            assert (got := reader("whole", "same")) == f"number {n:03d}", (i, n, got)
    end(a, b)


def drive(command):
    a, b = Host(command), Host(command)
    # open files of both: each write is seen by the other's next read
    for host in a, b:
        host("open", "f", "shared", os.O_RDWR)
    for i in range(50):
        writer, reader = (a, b) if i % 2 else (b, a)
        writer("write", "f", f"{i:06d}", 0)
        assert reader("read", "f") == f"{i:06d}", (i, reader("read", "f"))
    # close-to-open: what was written before the close is read after the open
    for i in range(20):
        writer, reader = (a, b) if i % 2 else (b, a)
        writer("put", "whole", f"version {i} " + "x" * 100 * i)
        soon("close-to-open", lambda: reader("whole", "whole"), f"version {i} " + "x" * 100 * i)
        soon("its size", lambda: reader("size", "whole"), len(f"version {i} ") + 100 * i)
    print("what one writes, the other reads")
    for how in "fcntl", "flock":
        assert a("lock", "f", how) and not b("lock", "f", how), how
        a("unlock", "f", how)
        assert b("lock", "f", how) and not a("lock", "f", how), how
        b("unlock", "f", how)
        name = "counter-" + how
        for host, who in (a, "a"), (b, "b"):
            host.begin("count", name, how, who)
        a.end(), b.end()
        for host in a, b:
            assert int(host("whole", name)) == 2 * TURNS, host("whole", name)
            soon("the log's size", lambda: host("size", name + ".log"), 2 * TURNS * RECORD)
        records = a("whole", name + ".log").splitlines()
        assert sorted(r.strip() for r in records) == sorted(f"{w} {t}" for w in "ab" for t in range(TURNS))
    print("locks hold, and nothing that was done under one is lost")
    a("put", "old", "moved")
    soon("a new name", lambda: b("whole", "old"), "moved")
    b("open", "o", "old", os.O_RDWR)
    a("rename", "old", "new")
    soon("the new name", lambda: b("whole", "new"), "moved")
    soon("the old name", lambda: b("whole", "old"), None)
    assert b("read", "o") == "moved"
    b("put", "other", "over it")
    b("rename", "other", "new")
    soon("a replaced name", lambda: a("whole", "new"), "over it")
    assert b("read", "o") == "moved"
    print("names follow")
    end(a, b)


if sys.argv[1] == "agent":
    agent(sys.argv[2])
else:
    {"drive": drive, "opens": opens}[sys.argv[1]](sys.argv[2:])
