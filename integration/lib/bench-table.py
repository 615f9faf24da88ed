# SPDX-License-Identifier: Apache-2.0
"""bench.txt -> a table with ratios, and JSON. usage: bench-table.py FILE PINNING [JSON]"""
import collections
import json
import statistics
import sys

samples = collections.defaultdict(lambda: collections.defaultdict(list))
columns = []
for line in open(sys.argv[1]):
    column, operation, ns = line.split()
    samples[operation][column].append(float(ns))
    if column not in columns:
        columns.append(column)
table = {o: {c: statistics.median(v) for c, v in row.items()} for o, row in samples.items()}

print(f"ns per operation, median of rounds; times of the bind volume's in brackets; CPUs: {sys.argv[2]}")
print(f"{'operation':15}" + "".join(f"{c:>22}" for c in columns))
for operation, row in table.items():
    cells = []
    for c in columns:
        if c not in row:
            cells.append("-")
        elif c == "bind" or "bind" not in row:
            cells.append(f"{row[c]:,.0f}")
        else:
            cells.append(f"{row[c]:,.0f} ({row[c] / row['bind']:.2f})")
    print(f"{operation:15}" + "".join(f"{c:>22}" for c in cells))
if len(sys.argv) > 3:
    with open(sys.argv[3], "w") as f:
        json.dump({"pinning": sys.argv[2], "unit": "ns", "operations": table}, f, indent=1)
