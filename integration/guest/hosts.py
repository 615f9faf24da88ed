# SPDX-License-Identifier: Apache-2.0
"""Two programs, each with a service of its own, on one directory, as on two hosts.

hosts.py agent DIR: does what the lines of its input say and answers in one line.
hosts.py drive COMMAND...: starts COMMAND twice, as agents, and checks what each sees of the other.
hosts.py opens COMMAND...: only that each reads at its next open what the other has closed; this at once,
also where each has a cache.

Data and locks are coherent at once; names and attributes within a second, for which is waited."""
import fcntl
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time

RECORD, TURNS, WAIT = 64, 100, 30
LOADED_TURNS, LOAD_FILES, LOAD_ROUNDS = 30, 6, 20
REGIONS, REGION = 200, 500


def block(version):
    """Content that is recognized as a whole."""
    return hashlib.sha256(f"{version}".encode()).digest() * 2000


class Load(threading.Thread):
    """Replaces files of its own, and reads the other host's: each is one whole generation, as large as it
    says, and none is older than what was there before."""

    def __init__(self, who, other):
        super().__init__(daemon=True)
        self.who, self.other = who, other
        self.rounds, self.found, self.seen, self.failure = 0, 0, {}, None
        self.stopping = threading.Event()
        self.start()

    def replace(self, generation):
        body = random.randbytes(random.choice((10, 3000, 90000, 300000)))
        head = f"{generation} {len(body)} {hashlib.sha256(body).hexdigest()}".ljust(99) + "\n"
        with open(f"load/{self.who}.new", "wb") as f:
            f.write(head.encode() + body)
        os.rename(f"load/{self.who}.new", f"load/{self.who}{generation % LOAD_FILES}")

    def look(self, k):
        try:
            with open(f"load/{self.other}{k}", "rb") as f:
                size, data = os.fstat(f.fileno()).st_size, f.read()
        except FileNotFoundError:
            assert k not in self.seen, f"{self.other}{k} was there"
            return
        generation, length, digest = data[:100].split()
        assert len(data) == size == 100 + int(length), (self.other, k, len(data), size, data[:100])
        assert hashlib.sha256(data[100:]).hexdigest() == digest.decode(), (self.other, k, data[:100])
        assert int(generation) >= self.seen.get(k, 0), (self.other, k, generation, self.seen)
        self.seen[k] = int(generation)
        self.found += 1

    def run(self):
        try:
            while not self.stopping.is_set() or self.rounds < LOAD_ROUNDS:
                self.rounds += 1
                self.replace(self.rounds)
                self.look(random.randrange(LOAD_FILES))
        except Exception as e:
            self.failure = repr(e)


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

    def cut(self, key, size):
        os.ftruncate(self.files[key], size)

    def digest(self, name):
        try:
            with open(name, "rb") as f:
                return hashlib.sha256(f.read()).hexdigest()
        except FileNotFoundError:
            return None

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

    def busy(self, who, other):
        os.makedirs("load", exist_ok=True)
        self.load = Load(who, other)

    def rest(self):
        """What went wrong under the load, and whether there was any."""
        self.load.stopping.set()
        self.load.join()
        return self.load.failure, self.load.found > 0

    def put_block(self, key, version, at):
        """Not synced: it stays in this host's buffers until the other one asks."""
        return os.pwrite(self.files[key], block(version), at)

    def has_blocks(self, key, versions):
        """Whether the file is blocks of these versions and nothing else."""
        want = b"".join(block(v) for v in versions)
        return os.pread(self.files[key], len(want) + 1, 0) == want

    def regions(self, key, parity):
        """Every other region: the other host writes the ones between."""
        for i in range(parity, REGIONS, 2):
            os.pwrite(self.files[key], f"{i}".ljust(REGION).encode(), i * REGION)

    def count(self, name, how, who, turns):
        """Reads, adds one and appends a record, under a lock, again and again."""
        lock = fcntl.lockf if how == "fcntl" else fcntl.flock
        fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
        log = os.open(name + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for turn in range(turns):
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


def count(a, b, name, how, turns):
    for host, who in (a, "a"), (b, "b"):
        host.begin("count", name, how, who, turns)
    a.end(), b.end()
    for host in a, b:
        assert int(host("whole", name)) == 2 * turns, host("whole", name)
        soon("the log's size", lambda: host("size", name + ".log"), 2 * turns * RECORD)
    records = a("whole", name + ".log").splitlines()
    assert sorted(r.strip() for r in records) == sorted(f"{w} {t}" for w in "ab" for t in range(turns))


def under_load(a, b):
    """What one host holds in its buffers and what it may do without asking is taken back by what the
    other one does, while both are busy in the same directory."""
    a("busy", "a", "b"), b("busy", "b", "a")
    for host in a, b:
        host("open", "r", "recalled", os.O_RDWR)
    for i in range(20):
        writer, reader = (a, b) if i % 2 else (b, a)
        writer("put_block", "r", i, 0)
        assert reader("has_blocks", "r", [i]), i
        writer("put_block", "r", -i, len(block(0)))  # it grows
        assert reader("has_blocks", "r", [i, -i]), i
        soon("its size", lambda: reader("size", "recalled"), 2 * len(block(0)))
        writer("cut", "r", len(block(0)))
        assert reader("has_blocks", "r", [i]), i
    for host in a, b:
        host("open", "p", "parts", os.O_RDWR)
        host.begin("regions", "p", "ab".index("a" if host is a else "b"))
    a.end(), b.end()
    for host in a, b:
        assert host("whole", "parts") == "".join(f"{i}".ljust(REGION) for i in range(REGIONS))
    count(a, b, "loaded", "fcntl", LOADED_TURNS)
    for i in range(20):
        mover, other = (a, b) if i % 2 else (b, a)
        mover("open", "n", f"name{i}", os.O_RDWR)
        mover("put_block", "n", i, 0)
        mover("rename", f"name{i}", "named")
        soon("a renamed file", lambda: other("digest", "named"), hashlib.sha256(block(i)).hexdigest())
        mover("close", "n")
    for host in a, b:
        failure, any_load = host("rest")
        assert not failure and any_load, (failure, any_load)


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
        count(a, b, "counter-" + how, how, TURNS)
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
    under_load(a, b)
    print("and all of it under load")
    end(a, b)


if sys.argv[1] == "agent":
    agent(sys.argv[2])
else:
    {"drive": drive, "opens": opens}[sys.argv[1]](sys.argv[2:])
