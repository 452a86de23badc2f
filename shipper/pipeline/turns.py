"""Whose turn it is to be read: files that are ready, in order; those that wait for an output's room, or for a time."""

import asyncio
from collections import deque
from collections.abc import Callable

from shipper.inputs.tail.generation import Generation


class Turns:
    """A queue in which every file stands once at most. What cannot be read leaves it, and comes back when told to."""

    def __init__(self) -> None:
        self.ready: deque[Generation] = deque()  # to be looked at; `add` and `next` change it
        self._queued: set[int] = set()
        self._blocked: dict[str, dict[int, Generation]] = {}  # by output: would be read if it had room
        self._timers: dict[int, tuple[float, asyncio.Handle]] = {}  # with its time on the loop's clock
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self.ready)

    def __repr__(self) -> str:
        return f"<Turns: {len(self.ready)} ready, {sum(map(len, self._blocked.values()))} blocked>"

    @property
    def is_blocked(self) -> bool:
        """Whether a file waits for room."""
        return bool(self._blocked)

    def add(self, generation: Generation) -> None:
        """At the end, unless it stands in the queue already."""
        if generation.id not in self._queued:
            self._queued.add(generation.id)
            self.ready.append(generation)
            self._wake.set()

    def next(self) -> Generation:
        """The first one; it leaves the queue."""
        generation = self.ready.popleft()
        self._queued.discard(generation.id)
        return generation

    async def wait(self) -> None:
        """Returns when somebody is ready."""
        while not self.ready:
            self._wake.clear()
            await self._wake.wait()

    def block(self, generation: Generation, output: str) -> None:
        """It is ready again when the output has room, if not before."""
        self._blocked.setdefault(output, {})[generation.id] = generation

    def unblock(self, has_room: Callable[[str], bool]) -> None:
        """Those that waited for an output which `has_room` now."""
        for output in [name for name in self._blocked if has_room(name)]:
            for generation in self._blocked.pop(output).values():
                self.add(generation)

    def unblock_all(self) -> None:
        """What they waited for may be gone."""
        self.unblock(lambda _: True)

    def later(self, generation: Generation, delay_s: float) -> None:
        """It is ready again after this time at the latest. One timer a file: the earliest counts.

        uvloop's timer of less than half a millisecond is a handle that does not know its time.
        """
        loop, timer = asyncio.get_running_loop(), self._timers.get(generation.id)
        when = loop.time() + delay_s
        if timer is not None and timer[0] <= when:
            return
        if timer is not None:
            timer[1].cancel()
        self._timers[generation.id] = when, loop.call_later(delay_s, self._fired, generation)

    def _fired(self, generation: Generation) -> None:
        self._timers.pop(generation.id, None)
        self.add(generation)
