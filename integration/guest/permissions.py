# SPDX-License-Identifier: Apache-2.0
"""What may whom do? Tries each operation as each identity on each kind of object and prints the
result and what became of the object. Run on a bind volume and on Danaus: the same text.
usage: permissions.py DIR (as root or as the container's user)"""
import ctypes
import errno
import os
import shutil
import stat
import sys

base = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)

IDENTITIES = [  # uid, gid, groups; "bare": without capabilities
    (1000, 1000, []),
    (1000, 2000, [1000]),
    (1001, 1001, [3000]),
    (1002, 1002, []),
    (0, 0, []),
    (0, 0, "bare"),
]
OBJECTS = [  # name, type, owner, group, mode
    ("f-rw", "file", 1000, 3000, 0o640),
    ("f-none", "file", 1000, 3000, 0o000),
    ("f-group", "file", 1000, 3000, 0o060),
    ("f-other", "file", 1000, 3000, 0o006),
    ("f-suid", "file", 1000, 1000, 0o6775),
    ("f-sgid-nox", "file", 1000, 3000, 0o2666),
    ("f-root", "file", 0, 0, 0o644),
    ("d-own", "dir", 1000, 3000, 0o750),
    ("d-none", "dir", 1000, 3000, 0o000),
    ("d-r", "dir", 1000, 3000, 0o444),
    ("d-x", "dir", 1000, 3000, 0o111),
    ("d-w", "dir", 1000, 3000, 0o222),
    ("d-sticky", "dir", 0, 0, 0o1777),
    ("d-sgid", "dir", 0, 3000, 0o2777),
    ("link-f", "link", 0, 0, 0o777),
]


def make_one(directory, name, kind, uid, gid, mode):
    p = os.path.join(directory, name)
    if kind == "file":
        with open(p, "w") as f:
            f.write("content")
    elif kind == "dir":
        os.mkdir(p)
        for inner, owner in (("mine", 1000), ("theirs", 1002)):
            with open(os.path.join(p, inner), "w") as f:
                f.write("inner")
            os.chown(os.path.join(p, inner), owner, owner)
    else:
        os.symlink("f-rw", p)
    os.lchown(p, uid, gid)
    if kind != "link":
        os.chmod(p, mode)


def make(directory, parent):
    """parent: (owner, group, mode) of the directory that the objects are in."""
    os.mkdir(directory)
    for o in OBJECTS:
        make_one(directory, *o)
    os.chown(directory, parent[0], parent[1])
    os.chmod(directory, parent[2])


def restore(directory, name):
    """That object (and what a link points to) as it was."""
    for o in OBJECTS:
        if o[0] == name or name == "link-f" and o[0] == "f-rw":
            for entry in os.listdir(directory):
                if entry == o[0] or entry.startswith(o[0] + "-") and entry not in [x[0] for x in OBJECTS]:
                    p = os.path.join(directory, entry)
                    if os.path.isdir(p) and not os.path.islink(p):
                        shutil.rmtree(p)
                    else:
                        os.unlink(p)
            make_one(directory, *o)


def drop_capabilities():
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) < 0:
        raise OSError(ctypes.get_errno(), "capset")


def closing(fd):
    os.close(fd)
    return "open"


def write_to(p, flags=os.O_WRONLY):
    fd = os.open(p, flags)
    try:
        return os.write(fd, b"more")
    finally:
        os.close(fd)


def shape(p):
    s = os.lstat(p)
    return f"{stat.S_IFMT(s.st_mode):o} {stat.S_IMODE(s.st_mode):04o} {s.st_uid}:{s.st_gid} {s.st_nlink} {s.st_size if not stat.S_ISDIR(s.st_mode) else '-'}"


def creating(act):
    def run(p):
        target = os.path.join(p, "new")
        act(target)
        return shape(target)
    return run


def umask_create(p):
    old = os.umask(0o027)
    try:
        target = os.path.join(p, "masked")
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o6777))
        os.mkdir(target + "-d", 0o7777)
        return shape(target) + ", " + shape(target + "-d")
    finally:
        os.umask(old)


FILE_OPS = {
    "read": lambda p: closing(os.open(p, os.O_RDONLY)),
    "write": write_to,
    "rdwr": lambda p: closing(os.open(p, os.O_RDWR)),
    "open-trunc": lambda p: closing(os.open(p, os.O_WRONLY | os.O_TRUNC)),
    "append": lambda p: write_to(p, os.O_WRONLY | os.O_APPEND),
    "noatime": lambda p: closing(os.open(p, os.O_RDONLY | os.O_NOATIME)),
    "path-fd": lambda p: closing(os.open(p, os.O_PATH)),
    "truncate": lambda p: os.truncate(p, 3),
    "access": lambda p: [os.access(p, m) for m in (os.F_OK, os.R_OK, os.W_OK, os.X_OK)],
    "faccess-eff": lambda p: [os.access(p, m, effective_ids=True) for m in (os.R_OK, os.W_OK, os.X_OK)],
    "utime-now": lambda p: os.utime(p),
    "utime-set": lambda p: os.utime(p, (5, 6)),
    "chmod": lambda p: os.chmod(p, 0o4711),
    "chmod-sgid": lambda p: os.chmod(p, 0o2775),
    "chown-0": lambda p: os.chown(p, 0, -1),
    "chown-self": lambda p: os.chown(p, os.getuid(), -1),
    "chgrp-3000": lambda p: os.chown(p, -1, 3000),
    "chgrp-own": lambda p: os.chown(p, -1, os.getgid()),
    "chown-none": lambda p: os.chown(p, -1, -1),
    "lchown": lambda p: os.lchown(p, -1, os.getgid()),
    "unlink": os.unlink,
    "rename": lambda p: os.rename(p, p + "-renamed"),
    "link": lambda p: os.link(p, p + "-linked"),
    "setxattr": lambda p: os.setxattr(p, "user.x", b"1"),
    "getxattr": lambda p: os.getxattr(p, "user.none"),
    "xattr-trusted": lambda p: os.setxattr(p, "trusted.x", b"1"),
    "xattr-security": lambda p: os.setxattr(p, "security.x", b"1"),
    "stat": lambda p: shape(p),
}
DIR_OPS = {
    "list": lambda p: sorted(os.listdir(p)),
    "create": creating(lambda p: os.close(os.open(p, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))),
    "create-sgid": creating(lambda p: os.close(os.open(p, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o2777))),
    "mkdir": creating(lambda p: os.mkdir(p, 0o777)),
    "symlink": creating(lambda p: os.symlink("x", p)),
    "mkfifo": creating(lambda p: os.mkfifo(p, 0o666)),
    "mknod": creating(lambda p: os.mknod(p, 0o666 | stat.S_IFCHR, os.makedev(1, 3))),
    "umask": umask_create,
    "inner-stat": lambda p: shape(p + "/mine"),
    "inner-read": lambda p: closing(os.open(p + "/mine", os.O_RDONLY)),
    "inner-unlink-mine": lambda p: os.unlink(p + "/mine"),
    "inner-unlink-theirs": lambda p: os.unlink(p + "/theirs"),
    "inner-rename-theirs": lambda p: os.rename(p + "/theirs", p + "/renamed"),
    "inner-over-theirs": lambda p: os.rename(p + "/mine", p + "/theirs"),
    "inner-creat-theirs": lambda p: closing(os.open(p + "/theirs", os.O_CREAT | os.O_WRONLY, 0o600)),
    "inner-link": lambda p: os.link(p + "/theirs", p + "/linked"),
    "chdir": os.chdir,
    "rmdir": os.rmdir,
    "move": lambda p: os.rename(p, p + "-moved"),
    "stat": lambda p: shape(p),
    "chmod": lambda p: os.chmod(p, 0o2770),
    "missing": lambda p: os.stat(p + "/nothing/there"),
}


def attempt(identity, act, path):
    """In a child with that identity; the answer as text."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            uid, gid, groups = identity
            os.setgroups([] if groups == "bare" else groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            if groups == "bare":
                drop_capabilities()
            try:
                answer = str(act(path))
            except OSError as e:
                answer = errno.errorcode.get(e.errno, str(e.errno))
            os.write(send, answer.encode())
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as f:
        answer = f.read().decode()
    os.waitpid(pid, 0)
    return answer


number = 0
for parent in ((1000, 1000, 0o755), (0, 3000, 0o1777)):
    for identity in IDENTITIES:
        directory = os.path.join(base, "t")
        make(directory, parent)
        for name, kind, *_ in OBJECTS:
            path = os.path.join(directory, name)
            for op, act in (DIR_OPS if kind == "dir" else FILE_OPS).items():
                answer = attempt(identity, act, path)
                after = shape(path) if os.path.lexists(path) else "gone"
                print(f"{parent} {identity} {name} {op}: {answer} -> {after}")
                number += 1
                # what may have changed is made again
                if not answer.startswith("E") and op not in ("read", "stat", "access", "list"):
                    restore(directory, name)
        shutil.rmtree(directory)
print(f"{number} attempts")
