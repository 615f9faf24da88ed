# SPDX-License-Identifier: Apache-2.0
"""Four writers on one WAL database, killed at random; then: is it whole, is nothing lost that was
committed? usage: sqlite.py DIR SECONDS"""
import os
import random
import signal
import sqlite3
import sys
import time

directory, seconds = sys.argv[1], float(sys.argv[2])
base = os.path.join(directory, "base.db")


def connect():
    db = sqlite3.connect(base, timeout=60, isolation_level=None)
    db.execute("pragma journal_mode=wal")
    db.execute("pragma synchronous=normal")
    return db


def writer(number, pipe):
    db = connect()
    while True:
        db.execute("begin immediate")
        n = db.execute("select count(*) from t where writer=?", (number,)).fetchone()[0]
        for i in range(5):
            db.execute("insert into t values (?, ?, ?)", (number, n + i, "x" * random.randrange(2000)))
        db.execute("commit")
        os.write(pipe, b"%d %d\n" % (number, n + 5))


def kill(pid):
    """Only a writer that is killed ends."""
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status), f"a writer ended by itself: {os.waitstatus_to_exitcode(status)}"


db = connect()
mode = db.execute("pragma journal_mode").fetchone()[0]
assert mode == "wal", mode
db.execute("create table t (writer integer, n integer, pad text, unique (writer, n))")
db.close()

random.seed(int(os.environ.get("SEED", "1")))
receive, send = os.pipe()
children = {}
end = time.monotonic() + seconds
kills = 0
while time.monotonic() < end:
    for number in range(4):
        if number not in children:
            pid = os.fork()
            if pid == 0:
                os.close(receive)
                writer(number, send)
            children[number] = pid
    time.sleep(random.random() * 0.4)
    victim = random.choice(list(children))
    kill(children.pop(victim))
    kills += 1
for pid in children.values():
    kill(pid)
os.close(send)
committed = {}
with os.fdopen(receive) as f:
    for line in f:
        number, n = line.split()
        committed[int(number)] = int(n)

db = connect()
check = db.execute("pragma integrity_check").fetchone()[0]
rows = dict(db.execute("select writer, count(*) from t group by writer"))
holes = db.execute("select count(*) from (select writer, max(n) + 1 - count(*) as d from t group by writer) where d <> 0").fetchone()[0]
print(f"{kills} kills, {sum(rows.values())} rows, integrity {check}, holes {holes}")
lost = [w for w, n in committed.items() if rows.get(w, 0) < n]
assert check == "ok" and holes == 0 and not lost, (check, holes, lost, rows, committed)
assert sum(rows.values()) > 50, "too little work was done"
print("whole")
