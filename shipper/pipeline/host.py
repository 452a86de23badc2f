"""What the pipeline offers to outputs and to the worker: the state directory, commits, dead letters."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import msgspec

from shipper.checkpoint import Stored
from shipper.dead_letters import DeadLetter, DeadLetters, Evicted
from shipper.inputs.tail.generation import Generation
from shipper.ledger import DEAD, DELIVERED, SPOOLED, lost
from shipper.metrics import Metrics
from shipper.outputs.fates import Letter

CountLoss = Callable[[Generation, str, str, int], None]  # generation, output, reason, bytes


class OutputHost(msgspec.Struct):
    """shipper.outputs.base.Host."""

    state_dir: str
    node: str
    metrics: Metrics
    stored: Stored
    find: Callable[[int], Generation | None]
    commit: Callable[[], Awaitable[None]]
    count_loss: CountLoss

    def rows(self, output: str) -> Mapping[str, bytes]:
        return self.stored.rows.get(output, {})

    def uploaded(self, output: str, generations: Mapping[int, int], records: int) -> None:  # noqa: ARG002
        self._move(output, generations, DELIVERED)

    def lost(self, output: str, generations: Mapping[int, int], records: int, reason: str) -> None:  # noqa: ARG002
        for generation, size in self._move(output, generations, lost(reason)):
            self.count_loss(generation, output, reason, size)

    def _move(self, output: str, generations: Mapping[int, int], fate: str) -> list[tuple[Generation, int]]:
        """-> how many bytes were spooled, by generation."""
        moved = []
        for id_, size in generations.items():
            generation = self.find(id_)
            cursor = generation.cursor_of(output) if generation is not None else None
            if generation is not None and cursor is not None:
                moved.append((generation, cursor.move(SPOOLED, fate, size)))
        return moved

    async def committed(self) -> None:
        await self.commit()


class LetterBox:
    """Rejected records into the store of dead letters, and what that pushes out into the ledger."""

    def __init__(self, store: DeadLetters, find: Callable[[int], Generation | None], count_loss: CountLoss) -> None:
        self._store, self._find, self._count_loss = store, find, count_loss

    async def keep(self, letters: list[Letter]) -> Callable[[], None]:
        now = time.time()
        evicted = await asyncio.to_thread(self._store.add, [_to_row(letter, now) for letter in letters])
        return partial(self._give_up, evicted)

    def _give_up(self, evicted: list[Evicted]) -> None:
        """What the ledger does not hold as dead letters (after a crash: not yet again) is no loss."""
        for each in evicted:
            generation = self._find(each.generation)
            cursor = generation.cursor_of(each.output) if generation is not None else None
            if generation is None or cursor is None:
                continue
            size = cursor.move(DEAD, lost("dead_letters_full"), each.source_bytes)
            if size:
                self._count_loss(generation, each.output, "dead_letters_full", size)


def _to_row(letter: Letter, now: float) -> DeadLetter:
    source = letter.piece.source
    return DeadLetter(
        time=now,
        output=letter.output,
        reason=letter.reason,
        detail=letter.detail,
        target=letter.piece.target,
        namespace=source.namespace,
        pod=source.pod,
        container=source.container,
        path=source.path,
        generation=letter.piece.span.generation,
        begin=letter.begin,
        end=letter.end,
        source_bytes=letter.source_bytes,
        document=letter.document,
        document_id=letter.document_id,
    )
