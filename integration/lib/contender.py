# SPDX-License-Identifier: Apache-2.0
"""A program of bench.c, started by a command line: one of those that bench.sh asks by turns, operation
by operation, so that a slow phase of the machine hits them all."""
import subprocess
import sys


class Contender:
    def __init__(self, name, line):
        self.name = name
        self.process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name}: ended: {self.process.wait()}")
        return line.split()

    def wait_ready(self):
        if self.answer() != ["ready"]:
            sys.exit(f"{self.name}: not ready")

    def ask(self, operation, milliseconds):
        """Nanoseconds per operation: the program's numbers."""
        print(operation, milliseconds, file=self.process.stdin, flush=True)
        return [float(x) for x in self.answer()]

    def end(self):
        self.process.stdin.close()
        self.process.wait()
