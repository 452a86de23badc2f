"""Which records of a chunk go where, when that depends on the records themselves."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import orjson

from shipper.conditions import field_of
from shipper.ledger import UNMATCHED, filtered
from shipper.parsers import Records
from shipper.router import Plan, fits
from shipper.sieve import Bodies

Tags = tuple[str, ...]


class Routed(msgspec.Struct):
    """Records, and what the filters that must see them said of each. Without such filters all have the plan's tags."""

    records: Records
    plan: Plan
    tags: list[Tags | None] = msgspec.field(default_factory=list)  # None in its place: dropped
    dropped: list[tuple[str, str] | None] = msgspec.field(default_factory=list)  # filter, reason
    dropped_bytes: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)
    dropped_records: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)
    _fitting: dict[tuple[Tags, Tags], bool] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, records: Records, plan: Plan) -> "Routed":
        routed = cls(records, plan)
        if not plan.rest or not len(records):
            return routed
        routed.tags, routed.dropped = [plan.tags] * len(records), [None] * len(records)
        chosen = plan.candidates(Bodies(records.bodies))
        for i in range(len(records)) if chosen is None else sorted(chosen):
            dropped, tags = plan.route(routed.record(i))
            routed.tags[i], routed.dropped[i] = None if dropped else tags, dropped
            if dropped:
                routed.dropped_bytes[dropped] += records.sizes[i]
                routed.dropped_records[dropped] += 1
        return routed

    def tags_of(self, i: int) -> Tags | None:
        return self.tags[i] if self.tags else self.plan.tags

    def fits(self, match: Tags, tags: Tags) -> bool:
        key = (match, tags)
        if key not in self._fitting:
            self._fitting[key] = fits(match, tags)
        return self._fitting[key]

    def fate(self, i: int) -> str:
        """Of a record that an output does not take."""
        dropped = self.plan.dropped or (self.dropped[i] if self.dropped else None)
        return filtered(*dropped) if dropped else UNMATCHED

    def record(self, i: int) -> Mapping[str, Any]:
        """As conditions and templates see it; its body is decoded when a field is asked for."""
        body, decoded = self.records.bodies[i], list[Any]()

        def look(name: str) -> Any:
            if not decoded:
                decoded.append(_decode(body))
            return field_of(decoded[0], name)

        return _Record(look, self.records.streams[i].decode(), body)


class _Record(Mapping[str, Any]):
    """`field`, a function; `stream`; `message`, which is decoded when it is asked for."""

    __slots__ = ("_body", "_known")

    def __init__(self, look: Callable[[str], Any], stream: str, body: bytes) -> None:
        self._known, self._body = {"field": look, "stream": stream}, body

    def __getitem__(self, name: str) -> Any:
        return self._body.decode("utf-8", "replace") if name == "message" else self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._known, "message"))

    def __len__(self) -> int:
        return len(self._known) + 1


def _decode(body: bytes) -> Any:
    """A JSON object's fields, or None."""
    if body.lstrip()[:1] != b"{":
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return msgspec.json.decode(body.decode("utf-8", "replace"))
    except (msgspec.MsgspecError, RecursionError):
        return None
