"""An event loop whose time passes at once: what waits an hour is tested in a millisecond, and always alike."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Instead of waiting for its time-out, moves the clock there."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout is None:
            raise AssertionError("every task waits for something that cannot happen any more")
        if not found and timeout:
            self.now += timeout
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run(scenario: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run. For scenarios without threads and without sockets to others: time does not wait for them."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(scenario)


def now() -> float:
    """Seconds since the scenario began."""
    return asyncio.get_running_loop().time()
