"""Makes durable what was confirmed: cursors, generations and the outputs' own rows, in one transaction a second.

Changes are collected in one synchronous step on the event loop, so that they belong together; fsyncs and the
transaction run in a thread. What a failed commit should have written goes into the next.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from shipper.checkpoint import Changes, Checkpoint
from shipper.errors import StateError, StateGone
from shipper.inputs.tail.generation import Generation, cursor_row
from shipper.log import fields
from shipper.outputs.base import Durable

log = logging.getLogger(__name__)

INTERVAL_S = 1.0


class Journal:
    def __init__(
        self,
        checkpoint: Checkpoint,
        durables: Mapping[str, Durable],
        generations: Callable[[], Iterable[Generation]],
        *,
        on_durable: Callable[[Generation], None],
    ) -> None:
        self.last_error = ""
        self.failures = 0
        self.is_lost = False  # nothing can be committed any more before a new start
        self.durables = dict(durables)  # by output
        self._checkpoint, self._generations = checkpoint, generations
        self._on_durable = on_durable  # told when what others wait for is: a random id, the end of a seam
        self._forgotten = Changes()
        self._left = Changes()  # collected, but not durable yet
        self._waiting: list[asyncio.Future[None]] = []
        self._hurry = asyncio.Event()
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Journal of {self._checkpoint.path}>"

    async def run(self) -> None:
        """Endless."""
        while True:
            try:
                async with asyncio.timeout(INTERVAL_S):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            self._hurry.clear()
            await self.commit()
            if self.last_error:
                await asyncio.sleep(INTERVAL_S)

    def forget(self, generation: Generation) -> None:
        self._forgotten.forgotten.append(generation.id)

    def forget_cursor(self, generation: Generation, output: str) -> None:
        self._forgotten.forgotten_cursors.append((generation.id, output))

    def forget_output(self, output: str) -> None:
        """All that it kept."""
        self._forgotten.forgotten_outputs.append(output)

    def hurry(self) -> None:
        """Somebody waits for the next commit."""
        self._hurry.set()

    async def committed(self) -> None:
        """Returns when all that has changed until now is durable."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._hurry.set()
        await future

    async def commit(self) -> bool:
        """-> whether it worked; a failure is said, and tried again with the next one."""
        async with self._lock:
            self._left = changes = self._collect()  # and stays there whatever ends this commit
            waiting = len(self._waiting)
            if changes:
                try:
                    await asyncio.to_thread(self._write, changes)
                except (StateError, OSError) as exc:
                    self._failed(exc)
                    return False
            if self.last_error:
                log.info("the checkpoint is written again", extra=fields(after_failures=self.failures))
            self.last_error, self._left = "", Changes()
            self._committed(changes)
            for future in self._waiting[:waiting]:
                if not future.done():
                    future.set_result(None)
            del self._waiting[:waiting]
            return True

    def _collect(self) -> Changes:
        left, new, self._forgotten = self._left, self._forgotten, Changes()
        generations = {row.id: row for row in left.generations}
        cursors = {(row.generation, row.output): row for row in left.cursors}
        for key in new.forgotten_cursors:
            cursors.pop(key, None)
        for generation in self._generations():
            if (generation.is_dirty or generation.has_grown) and generation.is_to_be_committed():
                generation.is_dirty = False
                generations[generation.id] = generation.to_row()
            for cursor in (*generation.cursors.values(), *generation.parked.values()):
                if cursor.is_dirty:
                    cursor.is_dirty = False
                    cursors[cursor.generation, cursor.output] = cursor_row(cursor)
        rows: dict[str, dict[str, bytes | None]] = {
            name: dict(changed) for name, changed in left.rows.items() if name not in new.forgotten_outputs
        }
        for name, durable in self.durables.items():
            rows.setdefault(name, {}).update(durable.changes())
        return Changes(
            list(generations.values()),
            list(cursors.values()),
            dict[str, Any](rows),
            left.forgotten + new.forgotten,
            left.forgotten_cursors + new.forgotten_cursors,
            left.forgotten_outputs + new.forgotten_outputs,
        )

    def _write(self, changes: Changes) -> None:
        for name, rows in changes.rows.items():
            if rows:
                self.durables[name].sync()
        self._checkpoint.commit(changes)

    def _committed(self, changes: Changes) -> None:
        rows = {row.id: row for row in changes.generations}
        for generation in list(self._generations()) if rows else ():
            row = rows.get(generation.id)
            if row is not None and generation.committed(row):
                self._on_durable(generation)

    def _failed(self, exc: Exception) -> None:
        """Each trouble is said once, however often it is tried again."""
        before, self.last_error = self.last_error, str(exc)
        self.failures += 1
        self.is_lost = isinstance(exc, StateGone)
        if self.last_error == before:
            return
        log.error(
            "the checkpoint could not be written; nothing is lost, but what is sent would be sent again after a crash",
            extra=fields(error=str(exc)),
        )
