"""The simulated node's clock: it may run faster than ours, be moved on by hand, and jump."""

import time
from collections.abc import Callable

NANOSECOND = 10**9
START_NS = 1_795_255_200 * NANOSECOND  # 2026-11-21T10:00:00Z


class Clock:
    """Wall clock in nanoseconds since 1970. `factor`: simulated seconds per real second; 0 stands still."""

    def __init__(
        self, start_ns: int = START_NS, *, factor: float = 0.0, real: Callable[[], float] = time.monotonic
    ) -> None:
        self._start_ns = start_ns
        self._factor = factor
        self._real = real
        self._real_start = real()

    def now_ns(self) -> int:
        return self._start_ns + int((self._real() - self._real_start) * self._factor * NANOSECOND)

    def advance(self, seconds: float) -> None:
        """Time passes, or the clock is set: a negative number steps it back."""
        self._start_ns += int(seconds * NANOSECOND)


def cri_time(ns: int) -> bytes:
    """RFC 3339 with the trailing zeros of the fraction trimmed, as containerd writes it (Go's RFC3339Nano)."""
    seconds, fraction = divmod(ns, NANOSECOND)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{fraction:09d}".rstrip("0").rstrip(".").encode() + b"Z"


def rotation_suffix(ns: int) -> str:
    """What the kubelet appends to a rotated file's name."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(ns // NANOSECOND))
