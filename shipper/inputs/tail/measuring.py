"""Sizes of large gzipped files, found out beside all else.

They grow while they are measured, as those of live files do: nobody waits for the whole of one.
"""

import asyncio
from collections.abc import Callable

from shipper.inputs.tail.files import Measurement
from shipper.inputs.tail.generation import Generation
from shipper.inputs.tail.problems import Problems

AHEAD_BYTES = 256 * 2**20  # so far before its readers a file is measured
AGAIN_S = 0.5


class Measuring:
    """Generations whose sizes are not known yet; each measurement is closed when it is over, or not needed any more.

    `changed` hears of one that has grown, `finish` of one that is measured.
    """

    def __init__(
        self, problems: Problems, *, changed: Callable[[Generation], None], finish: Callable[[Generation], None]
    ) -> None:
        self._problems, self._changed, self._finish = problems, changed, finish
        self._left: dict[int, tuple[Generation, Measurement]] = {}
        self._has_some = asyncio.Event()
        self._at_work = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Measuring {len(self._left)} files>"

    def __contains__(self, generation: Generation) -> bool:
        return generation.id in self._left

    def between_parts(self) -> asyncio.Lock:
        """Whoever holds it knows that no thread is at it."""
        return self._at_work

    def add(self, generation: Generation, measurement: Measurement) -> None:
        self._left[generation.id] = generation, measurement
        self._has_some.set()

    def take(self, generation: Generation) -> Measurement | None:
        """It is somebody else's to go on with, and to close."""
        return self._left.pop(generation.id, (None, None))[1]

    def end(self, generation: Generation) -> None:
        """It is measured, or need not be any more."""
        if (measurement := self.take(generation)) is not None:
            measurement.close()

    async def run(self) -> None:
        """Endless. Not far ahead of the readers, so that a bomb costs no more than what is read of it."""
        while True:
            await self._has_some.wait()
            is_idle = True
            for generation, measurement in list(self._left.values()):
                if measurement.size - generation.least_position() < AHEAD_BYTES:
                    is_idle = False
                    async with self._at_work:
                        if generation in self:
                            await self._go_on(generation, measurement)
            if not self._left:
                self._has_some.clear()
            elif is_idle:
                await asyncio.sleep(AGAIN_S)

    async def _go_on(self, generation: Generation, measurement: Measurement) -> None:
        try:
            await asyncio.to_thread(measurement.go_on)
        except OSError as exc:
            self._problems.note(generation.path, exc.strerror or str(exc))
            measurement.close()
        if self._left.get(generation.id) != (generation, measurement):
            measurement.close()
            return
        if measurement.size > generation.size:
            generation.size, generation.is_dirty = measurement.size, True
        if measurement.is_over:
            self.end(generation)
            self._finish(generation)
        elif generation.has_unread():
            self._changed(generation)
