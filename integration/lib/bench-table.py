# SPDX-License-Identifier: Apache-2.0
"""What bench-inside.py measured -> a table with ratios, the targets, and JSON.
usage: bench-table.py FILE PINNING [JSON]"""
import json
import statistics
import sys

# operation, who, at most so many times, whose time
TARGETS = (
    [(o, "danaus", 0.7, "bind") for o in ("pread-4k", "pwrite-4k", "append-100")]
    + [(o, "danaus", 1.0, "bind") for o in ("stat", "fstat", "open-close")]
    + [(o, "danaus", 1.3, "bind") for o in ("create-unlink", "rename", "list-1000")]
    + [(o, "danaus-static", 0.2, "fuse") for o in ("stat", "open-close", "pwrite-4k")]
    + [("spawn-true", "danaus", 1.05, "bind")]
)
START_MS = 60  # a container with Danaus over one without

NOTE = """ns per operation: the median of rounds, each the median of batches; in brackets the median over the
rounds of the ratio to the bind volume in the same round; CPUs: {pinning}. All files are on one
ext4 with a journal, which is made for this run. All programs run
throughout and keep their files open; each round asks each of them for each operation by turns.
pread-4k: of a file that nobody writes to meanwhile, read through once before each measurement, by
everyone. danaus: dynamic program; danaus-static: static, notify door; danaus-face: static, Danaus's
kernel face alone; fuse: static, libfuse's passthrough_ll with cache=never (no caching in the
kernel); fuse-overlayfs: dynamic, names, attributes and pages cached by the kernel.
memory-4k: 4 KiB to another thread and an answer, no file: what a hand-over between CPUs costs."""


def ratio(row, one, other, which=0):
    return statistics.median(a[which] / b[which] for a, b in zip(row[one], row[other]))


def cell(row, column):
    if column not in row:
        return "-"
    ns = statistics.median(a[0] for a in row[column])
    return f"{ns:,.0f}" if column == "bind" else f"{ns:,.0f} ({ratio(row, column, 'bind'):.2f})"


def main():
    with open(sys.argv[1]) as f:
        measured = json.load(f)
    samples, targets = measured["samples"], []
    columns = list(dict.fromkeys(c for row in samples.values() for c in row))
    print(NOTE.format(pinning=sys.argv[2]) + "\n")
    print(f"{'operation':17}" + "".join(f"{c:>22}" for c in columns))
    for operation, row in samples.items():
        print(f"{operation:17}" + "".join(f"{cell(row, c):>22}" for c in columns))
    for who, why in measured["skipped"].items():
        print(f"{who}: not measured: {why}")
    print(f"\n{'target':17}{'of':>15}{'to':>6}{'at most':>9}{'median':>8}{'10th percentile':>17}")
    for operation, who, limit, whose in TARGETS:
        row = samples[operation]
        if who not in row or whose not in row:
            continue
        got, quick = ratio(row, who, whose), ratio(row, who, whose, 1)
        targets.append({"operation": operation, "of": who, "to": whose, "at_most": limit,
                        "ratio": got, "ratio_of_tenth_percentiles": quick})
        print(f"{operation:17}{who:>15}{whose:>6}{limit:9.2f}{got:8.2f}{quick:17.2f}"
              + ("" if got <= limit else "  missed"))
    row = samples["container"]
    more = statistics.median(a[0] - b[0] for a, b in zip(row["danaus"], row["bind"])) / 1e6
    targets.append({"operation": "container", "of": "danaus", "to": "bind", "at_most_ms_more": START_MS,
                    "ms_more": more})
    print(f"a container's start: {more:.0f} ms more, at most {START_MS}"
          + ("" if more <= START_MS else "  missed"))
    if len(sys.argv) > 3:
        operations = {o: {c: {"median": statistics.median(a[0] for a in v),
                              "tenth_percentile": statistics.median(a[1] for a in v)}
                          for c, v in row.items()} for o, row in samples.items()}
        with open(sys.argv[3], "w") as f:
            json.dump({"pinning": sys.argv[2], "unit": "ns", "operations": operations,
                       "targets": targets, "skipped": measured["skipped"]}, f, indent=1)


main()
