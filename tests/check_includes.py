#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who may include whom: docs/architecture.md says it, this test enforces it, and how a file begins: its
licence, what it owns, and its own header first.

And that the service's threads begin as itself. Reads the first lines and the #include lines of every source file. `check_includes.py SOURCE_ROOT`."""
import pathlib
import re
import sys

# What a libservice knows of the others: their interface
LIBSERVICE = [f"danaus/libservices/{h}.h" for h in ("libservice", "attr_time", "cred", "patience")]
# folder: the folders of ours that its files may include (its own is always allowed)
ALLOWED = {
    "danaus/base": [],
    "danaus/proto": ["danaus/base"],
    "danaus/libservices": ["danaus/base", "danaus/proto", "danaus/libservices"],
    "danaus/libservices/cache": ["danaus/base", "danaus/proto", *LIBSERVICE],
    "danaus/libservices/ceph": ["danaus/base", "danaus/proto", *LIBSERVICE],
    "danaus/libservices/local": ["danaus/base", "danaus/proto", *LIBSERVICE],
    "danaus/libservices/union": ["danaus/base", "danaus/proto", *LIBSERVICE],
    "danaus/vfs": ["danaus/base", "danaus/proto", *LIBSERVICE],
    "danaus/pool": ["danaus/base", "danaus/proto", "danaus/libservices", "danaus/vfs"],
    "danaus/shm": ["danaus/base", "danaus/proto", "danaus/libservices", "danaus/vfs", "danaus/pool", "danaus/fuse"],
    "danaus/server": ["danaus", "cgroups"],
    "danaus/notify": ["danaus/base", "danaus/proto", "danaus/libservices", "danaus/vfs", "danaus/pool", "danaus/fuse"],
    "danaus/fuse": ["danaus/base", "danaus/proto", "danaus/libservices", "danaus/vfs", "danaus/pool"],
    "danaus/ctl": ["danaus/base", "danaus/proto", "cgroups", "oci"],
    "preload": ["danaus/base", "danaus/proto", "danaus/shm/channel.h"],
    "oci": ["danaus/base", "danaus/proto/guest.h", "danaus/proto/mount_table.h", "danaus/proto/source.h"],
    "cgroups": ["danaus/base"],
    "hooks": ["danaus/base", "danaus/proto", "oci", "cgroups"],
    "shim": ["danaus/base", "oci", "cgroups"],
}
# A library's headers: the only files that may include them.
LIBRARIES = {
    r"cephfs/|rados/": r"danaus/libservices/ceph/",
    r"fuse3?/|fuse_lowlevel\.h|fuse\.h$": r"danaus/fuse/",
    r"seccomp\.h$": r"danaus/notify/",
    r"cmocka\.h$": r"tests/",
}
MAKES_THREADS = "danaus/libservices/cred.c"
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.M)


def folder_of(path):
    return max((f for f in ALLOWED if path.startswith(f + "/")), key=len, default=None)


def beginnings(name, text, ours):
    """A header that a file's parts share (face_impl.h) has the file's own first."""
    lines = text.split("\n", 2)
    included = INCLUDE.search(text)
    stem = name[:-len(".c")]
    own = [stem + end for end in (".h", "_impl.h", "_internal.h")]
    own.append(name.rpartition("/")[0] + "/internal.h")
    if not lines[0].startswith("/* SPDX-License-Identifier: "):
        yield f"{name}: does not begin with its licence"
    elif not name.startswith("tests/") and not lines[1].startswith("/* "):
        yield f"{name}: the second line does not say what it is about"
    if name.endswith(".h") and "\n#pragma once\n" not in text:
        yield f"{name}: no #pragma once"
    if name.endswith(".c") and own[0] in ours and (not included or included.group(2) not in own):
        yield f"{name}: {own[0]} is not included first"


def problems(root):
    files = [p for p in root.rglob("*") if p.suffix in (".c", ".h", ".def")]
    ours = {p.relative_to(root).as_posix() for p in files}
    for p in sorted(files):
        name = p.relative_to(root).as_posix()
        if name.startswith(("build", ".")):
            continue
        folder = folder_of(name)
        text = p.read_text(errors="replace")
        yield from beginnings(name, text, ours)
        if name.startswith("danaus/") and name != MAKES_THREADS and re.search(r"\bpthread_create\(&", text):
            yield f"{name}: a thread of the service is made by cred_thread() ({MAKES_THREADS})"
        for quote, included in INCLUDE.findall(text):
            for library, user in LIBRARIES.items():
                if quote == "<" and re.match(library, included) and not re.match(user, name):
                    yield f"{name}: includes <{included}>: only {user} may"
            target = included
            if included not in ours:
                beside = (pathlib.PurePosixPath(name).parent / included).as_posix()
                if quote == '"' and beside in ours:
                    target = beside
                else:
                    continue
            there = folder_of(target)
            if folder is None or there is None or there == folder:
                continue
            if not any(target == a or target.startswith(a + "/") for a in ALLOWED[folder]):
                yield f"{name}: includes {target}: {folder} may not include {there}"


def main():
    found = list(problems(pathlib.Path(sys.argv[1])))
    print("\n".join(found) or "include rules: ok")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
