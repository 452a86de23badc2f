"""What can go wrong with a bulk request, one after another as scripted, or each with a probability."""

import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

FaultKind = Literal[
    "busy",  # whole request 429
    "unavailable",  # whole request 503
    "malformed",  # whole request 400, in Elasticsearch's words
    "too_large",  # 413, whatever its size
    "unauthorized",  # 401
    "forbidden",  # 403
    "proxy_page",  # 502, HTML
    "items_busy",  # 200, some items 429
    "items_unavailable",  # 200, some items 503
    "items_rejected",  # 200, some items 400: mapping failures
    "items_blocked",  # 200, some items 403 cluster_block_exception
    "failure_store",  # 200, some items end in the failure store
    "fewer_items",  # all applied, the answer has an item less
    "slow",  # all applied, the answer comes after delay_s
    "hang",  # nothing applied, no answer
    "applied_then_hang",
    "reset",  # nothing applied, the connection is reset
    "applied_then_reset",
    "cut_answer",  # all applied, half of the answer
    "cut_valid_answer",  # all applied, half of the answer under a length that agrees with it
    "roll_over",  # each data stream of the request rolls over first; then all is applied
    "applied_then_rolled_over",  # all applied; each data stream rolls over; the connection is reset
]


@dataclass(frozen=True)
class Fault:
    kind: FaultKind
    share: float = 0.5  # of a request's items, for the kinds that strike some
    delay_s: float = 0.5  # for slow
    retry_after: str | None = None  # header value, for busy and unavailable


class Faults:
    """`script` comes first, a fault a request (None: none); then `chances`, decided by the seed alone."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.chances: Mapping[Fault, float] = {}
        self.injected: list[FaultKind] = []
        self._script: deque[Fault | None] = deque()

    def script(self, *faults: Fault | FaultKind | None) -> None:
        self._script.extend(Fault(fault) if isinstance(fault, str) else fault for fault in faults)

    def next(self) -> Fault | None:
        fault = self._script.popleft() if self._script else self._by_chance()
        if fault is not None:
            self.injected.append(fault.kind)
        return fault

    def _by_chance(self) -> Fault | None:
        number = self.random.random()
        for fault, chance in self.chances.items():
            number -= chance
            if number < 0:
                return fault
        return None

    def struck(self, items: int, share: float) -> frozenset[int]:
        """Positions of the items that a fault strikes: at least one."""
        return frozenset(self.random.sample(range(items), max(1, min(items, round(items * share)))) if items else ())


def mixed(kinds: Iterable[FaultKind], total: float) -> dict[Fault, float]:
    """Chances for `Faults.chances`: `total` shared equally."""
    faults = [Fault(kind) for kind in kinds]
    return dict.fromkeys(faults, total / len(faults))
