"""What a command costs: CPU of its whole process tree, time, memory.

    python -m benchmarks.measure RESULT.json COMMAND ...

It runs as a small process of its own, since a child's peak memory is never reported below that of the process which
started it.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import msgspec


class Cost(msgspec.Struct, frozen=True):
    """`cpu_s`: user and system, with all children. `rss_mb`: the peak of the largest process, in 10**6 bytes."""

    code: int
    cpu_s: float
    wall_s: float
    rss_mb: float

    @classmethod
    def load(cls, path: Path) -> Self:
        return msgspec.json.decode(path.read_bytes(), type=cls)


def measure(command: list[str]) -> Cost:
    """Runs it to its end. Its descendants count if they have ended and were waited for, as the kernel has it."""
    started = time.monotonic()
    process = subprocess.Popen(command)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # it stops what would go on for ever
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        signal.signal(signal.SIGTERM, before)
    wall_s = time.monotonic() - started
    process.returncode = code = os.waitstatus_to_exitcode(status)
    return Cost(code, usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss * 1024 / 1e6)


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(msgspec.json.encode(measure(sys.argv[2:])))
