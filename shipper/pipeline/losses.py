"""What nobody can read any more: counted in the ledger, in metrics and in the log, for each container."""

import logging
from collections.abc import Callable

from shipper.document import valid_name
from shipper.inputs.tail.generation import Generation
from shipper.log import fields
from shipper.metrics import Metrics
from shipper.pipeline.plans import Plans

log = logging.getLogger(__name__)


class Losses:
    def __init__(self, plans: Plans, metrics: Metrics, *, changed: Callable[[Generation], None]) -> None:
        """`changed` hears of the file whose turn has come, since it need not wait for another one any more."""
        self._plans, self._metrics, self._changed = plans, metrics, changed

    def lose(self, generation: Generation, reason: str, *, has_gap: bool) -> None:
        """All that is unread. `has_gap`: and nobody knows whether there was more."""
        for cursor in generation.cursors.values():
            instead = self._plans.fate_unread(generation, cursor.output)
            given_up = cursor.give_up(generation.size, reason, instead=instead)
            if given_up.lost:
                self.count(generation, cursor.output, reason, given_up.lost)
            if given_up.in_doubt:
                _say_in_doubt(generation, cursor.output, reason, given_up.in_doubt)
            if has_gap or given_up.in_doubt:
                self._metrics.lost_gaps.labels(cursor.output, *_labels(generation), reason).inc()
        if has_gap:
            generation.gaps += 1
            generation.is_dirty = True
            log.error(
                "a log file went away while it was not watched; nobody knows how much of it was missed",
                extra=fields(path=generation.path, known_bytes=generation.size),
            )
        if generation.following is not None:
            self._changed(generation.following)

    def count(self, generation: Generation, output: str, reason: str, size: int) -> None:
        """So many bytes, whose fate in the ledger is lost already."""
        self._metrics.lost_bytes.labels(output, *_labels(generation), reason).inc(size)
        log.error(
            "bytes of a log file were lost",
            extra=fields(output=output, path=generation.path, bytes=size, reason=reason),
        )


def _say_in_doubt(generation: Generation, output: str, reason: str, count: int) -> None:
    log.error(
        "a log file is gone, and nobody knows how much of its rest was delivered before shipper was killed",
        extra=fields(output=output, path=generation.path, bytes_at_most=count, reason=reason),
    )


def _labels(generation: Generation) -> tuple[str, str, str]:
    source = generation.source
    return valid_name(source.namespace), valid_name(source.pod or source.path), valid_name(source.container)
