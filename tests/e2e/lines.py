"""Single lines of single containers, written by hand."""

import itertools
from pathlib import Path

UID = "11111111-2222-3333-4444-555555555555"
_NS = 10**9


class Container:
    """`app` of one pod, restart 0. A line's number is its nanosecond."""

    def __init__(self, pods: Path, *, namespace: str = "shop", pod: str = "cart-1", uid: str = UID) -> None:
        self.path = pods / f"{namespace}_{pod}_{uid}" / "app" / "0.log"
        self.bytes = 0
        self._numbers = itertools.count(1)

    def write(self, *messages: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"2026-11-21T10:00:00.{next(self._numbers):09d}Z stdout F {message}\n" for message in messages]
        data = "".join(lines).encode()
        self.bytes += len(data)
        with self.path.open("ab") as file:
            file.write(data)
