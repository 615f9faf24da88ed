# SPDX-License-Identifier: Apache-2.0
"""Tries to reach what is outside of the volume /data: prints what it could read. The host has a file
`secret` beside the volume's directory, and nothing of the container holds that text."""
import os
import sys
import threading
import time

found = []


def look(what, read):
    try:
        text = read()
    except OSError:
        return
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    if "HOST-SECRET" in str(text):
        found.append(what)
        print("reached the host:", what)


def slurp(path, dir_fd=None):
    fd = os.open(path, os.O_RDONLY, dir_fd=dir_fd)
    try:
        return os.read(fd, 1000)
    finally:
        os.close(fd)


os.makedirs("/data/a/b/c", exist_ok=True)
host = sys.argv[1]  # the volume's path on the host
for name, target in (
    ("up", "../secret"), ("up2", "a/../../secret"), ("abs", host + "/../secret"), ("root", "/"),
    ("proc", "/proc/self/root/.."), ("self", "/proc/self/cwd"), ("deep", "a/b/c/../../../../secret"),
):
    if not os.path.lexists("/data/" + name):
        os.symlink(target, "/data/" + name)
for path in ("/data/../secret", "/data/up", "/data/up2", "/data/abs", "/data/deep", "/data/root" + host + "/../secret",
             "/data/a/../../secret", "/data/proc/secret", "/data/root/secret", "/data/./..//secret", host + "/../secret"):
    look(path, lambda: slurp(path))
    look("stat " + path, lambda: os.readlink(path))

d = os.open("/data", os.O_RDONLY | os.O_DIRECTORY)
deep = os.open("/data/a/b/c", os.O_RDONLY | os.O_DIRECTORY)
path_fd = os.open("/data", os.O_PATH)
for fd, name in ((d, "d"), (deep, "deep"), (path_fd, "O_PATH")):
    for path in ("../secret", "../../../../secret", "up", "../../../up", "abs"):
        look(f"{name} {path}", lambda: slurp(path, fd))
    look(f"/proc/self/fd/{name}/../secret", lambda: slurp(f"/proc/self/fd/{fd}/../secret"))
    look(f"/proc/self/fd/{name}/up", lambda: slurp(f"/proc/self/fd/{fd}/up"))
os.chdir("/data/a/b")
look("cwd", lambda: slurp("../../../secret"))
os.chdir("/data")
look("cwd root", lambda: slurp("../secret"))
for link in ("/data/hard", "/data/a/hard"):
    try:
        os.link("/etc/hostname", link)
        print("a hard link out of the root file system went through")
    except OSError as e:
        if e.errno != 18:
            print("hard link:", e)

# Directories move while paths through them are walked.
stop = False


def mover():
    while not stop:
        try:
            os.rename("/data/a/b", "/data/b")
            os.rename("/data/b", "/data/a/b")
        except OSError:
            pass


def swapper():
    while not stop:
        try:
            os.unlink("/data/swap")
        except OSError:
            pass
        try:
            os.symlink("/", "/data/swap")
            os.unlink("/data/swap")
            os.mkdir("/data/swap")
            os.rmdir("/data/swap")
        except OSError:
            pass


threads = [threading.Thread(target=mover), threading.Thread(target=swapper)]
for t in threads:
    t.start()
end = time.monotonic() + 3
tries = 0
while time.monotonic() < end:
    for path in ("/data/a/b/c/../../../secret", "/data/a/b/c/../../../../secret", "/data/swap" + host + "/../secret",
                 "/data/swap/../secret", "/data/b/c/../../../secret"):
        look("moving " + path, lambda: slurp(path))
        look("moving fd " + path, lambda: slurp("../../../secret", deep))
        tries += 1
stop = True
for t in threads:
    t.join()
print(f"{tries} tries, {len(found)} reached")
sys.exit(1 if found or tries < 100 else 0)
