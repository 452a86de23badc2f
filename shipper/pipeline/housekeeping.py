"""Every few seconds: closes what is done, bounds what is deleted, forgets what is history."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from shipper.filters.base import MetadataSource
from shipper.inputs.tail.generation import Generation
from shipper.ledger import SPOOLED, Cursor
from shipper.log import fields
from shipper.pipeline.crew import Crew
from shipper.pipeline.journal import Journal
from shipper.pipeline.losses import Losses
from shipper.pipeline.plans import Plans
from shipper.pipeline.registry import Registry

log = logging.getLogger(__name__)


class Housekeeper:
    def __init__(
        self, registry: Registry, plans: Plans, crew: Crew, journal: Journal, losses: Losses, *, keepers: Iterable[str]
    ) -> None:
        """`keepers`: outputs that may have rows of their own in the state."""
        self.history_s = self.hold_deleted_bytes = 0.0  # as configured
        self.on_forgotten_output: Callable[[str], None] = lambda _: None  # its history is over: what it keeps may go
        self.keepers = set(keepers)
        self._registry, self._plans, self._crew = registry, plans, crew
        self._journal, self._losses = journal, losses

    def __repr__(self) -> str:
        return f"<Housekeeper of {self._registry}>"

    def tend(self, metadata: MetadataSource | None) -> None:
        now, held = time.time(), []
        for generation in list(self._registry):
            if generation.left_out_at is None:
                if generation.is_final and generation.file is not None and generation.is_done():
                    self._registry.input_of(generation).catalog.release(generation)
                    self._plans.forget(generation)  # there are many that are history: they keep what the ledger needs
                    generation.forget_readings()
                if generation.is_deleted and generation.file is not None:
                    held.append(generation)
                self._finish_terminated(generation)
            self._end_history(generation, now)
        self.bound_held(held)
        self._forget_outputs()
        self._plans.tend(time.monotonic())
        if metadata is not None:
            metadata.retain({uid for uid, files in self._registry.pods() if any(map(_may_be_read, files))})

    def _finish_terminated(self, generation: Generation) -> None:
        """The last words of a container that has ended: containerd writes them as `P`, and no `F` will come."""
        stood_still = generation.is_stalled() and generation.stood_at == generation.size
        generation.stood_at = generation.size
        if stood_still and not generation.is_final and self._plans.has_ended(generation):
            self._registry.input_of(generation).catalog.finish(generation)

    def bound_held(self, held: Sequence[Generation]) -> None:
        """Of deleted files that are kept open, gives up the oldest where they hold too much that is unread."""
        total = sum(g.unread_bytes() for g in held)
        for generation in sorted(held, key=lambda g: g.gone_at or 0):
            if total <= self.hold_deleted_bytes:
                return
            total -= generation.unread_bytes()
            self._losses.lose(generation, "hold_deleted", has_gap=False)

    # -- history ------------------------------------------------------------------------------------------------------

    def _end_history(self, generation: Generation, now: float) -> None:
        """Forgets what nobody has asked for in that long: cursors that are parked, and in the end the file itself."""
        for cursor in list(generation.parked.values()):
            is_over = cursor.parked_at is not None and now - cursor.parked_at > self.history_s
            is_uploaded_yet = SPOOLED in cursor.fates and cursor.output in self._crew.workers
            if is_over and not cursor.segments and not is_uploaded_yet:
                self._forget_cursor(generation, cursor)
        since = generation.gone_at if generation.gone_at is not None else generation.left_out_at
        if since is None or now - since <= self.history_s or not generation.is_done():
            return
        if not any(SPOOLED in c.fates or c.pending(generation.end) for c in generation.all_cursors()):
            self._forget(generation)

    def _forget_cursor(self, generation: Generation, cursor: Cursor) -> None:
        """What its output has left in its spool goes with it."""
        if count := cursor.fates.get(SPOOLED, 0):
            self._losses.count(generation, cursor.output, "abandoned", count)
        generation.forget_parked(cursor.output)
        generation.is_dirty = True  # its size may have been told by this cursor alone
        self._journal.forget_cursor(generation, cursor.output)

    def _forget(self, generation: Generation) -> None:
        self._registry.remove(generation)
        self._plans.forget(generation)
        if generation.left_out_at is None:
            self._registry.input_of(generation).catalog.forget(generation)
        self._journal.forget(generation)

    def _forget_outputs(self) -> None:
        """Of those that were removed, whose last cursor is forgotten, nothing is kept."""
        absent = self.keepers - {worker.name for worker in self._crew.everybody()}
        kept = {name for g in self._registry for name in g.parked} if absent else set()
        for name in absent - kept:
            self.keepers.discard(name)
            self._journal.forget_output(name)
            self.on_forgotten_output(name)
            log.warning(
                "the state of an output that is not configured any more is forgotten", extra=fields(output=name)
            )


def _may_be_read(generation: Generation) -> bool:
    """What its pod is called must stay known: lines may come after the API server has forgotten it."""
    return generation.left_out_at is None and not (generation.is_final and generation.is_done())
