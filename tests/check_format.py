#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every C file, header and table is as clang-format 14 writes it with .clang-format; other versions write
some lines otherwise. `check_format.py SOURCE_ROOT`. Exits with 77 where there is no clang-format 14."""
import pathlib
import re
import subprocess
import sys


def formatter():
    for program in ("clang-format-14", "clang-format"):
        try:
            version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            continue
        if re.search(r"version 14\.", version):
            return program
    print("skipped: needs clang-format 14 (on Debian 12: apt-get install clang-format)")
    sys.exit(77)


def main():
    program = formatter()
    root = pathlib.Path(sys.argv[1])
    files = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix in (".c", ".h", ".def")]
    files = sorted(f for f in files if not f.startswith(("build", ".")))
    run = subprocess.run([program, "--dry-run", "-Werror", *files], cwd=root, capture_output=True, text=True)
    found = re.findall(r"^(\S+?):(\d+):\d+: error", run.stderr, re.M)
    for name in sorted({name for name, _ in found}):
        lines = [line for of, line in found if of == name]
        print(f"{name}: line {', '.join(lines[:9])}: clang-format -i {name}")
    if run.returncode and not found:
        print(run.stderr)
    if not run.returncode:
        print(f"format: {len(files)} files ok")
    return run.returncode


if __name__ == "__main__":
    sys.exit(main())
