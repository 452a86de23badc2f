"""How many lines of Python a piece of work runs: a machine of any speed counts them alike, where seconds differ."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Steps:
    """Lines that were run, each round of a loop counted anew; what a library does in C is none."""

    def __init__(self) -> None:
        self.count = 0

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.count += event == "line"
        return self.trace


@contextmanager
def counted_steps() -> Iterator[Steps]:
    """Counts what this thread begins within the block; a function that is already running is not counted."""
    steps, before = Steps(), sys.gettrace()
    sys.settrace(steps.trace)
    try:
        yield steps
    finally:
        sys.settrace(before)
