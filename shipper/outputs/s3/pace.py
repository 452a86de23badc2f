"""When the next upload may be tried: one pace for all uploads of an output, since they fail for the same reasons."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable


class Pace:
    """Doubles the wait with each failure in a row, up to `max_s`, with jitter; the first success ends it."""

    def __init__(
        self,
        initial_s: float,
        max_s: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._initial_s, self._max_s = initial_s, max_s
        self._monotonic, self._jitter = monotonic, jitter
        self.failures = 0
        self._not_before = 0.0
        self._reset = asyncio.Event()

    def fail(self, wish_s: float = 0.0) -> float:
        """Returns the seconds until the next try: half of the grown delay to all of it, or the server's wish."""
        grown_s = min(self._initial_s * 2.0 ** min(self.failures, 32), self._max_s)
        self.failures += 1
        delay_s = max(grown_s * (0.5 + self._jitter() / 2), wish_s)
        self._not_before = max(self._not_before, self._monotonic() + delay_s)
        return delay_s

    def succeed(self) -> None:
        """Also when there is no time left to wait: who waits goes on at once."""
        self.failures = 0
        self._not_before = 0.0
        self._reset.set()

    def delay_s(self) -> float:
        return max(self._not_before - self._monotonic(), 0.0)

    async def wait(self) -> None:
        while delay_s := self.delay_s():
            self._reset.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._reset.wait()
