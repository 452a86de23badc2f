"""What a chunk's records amount to: all that cursors, batches and metrics need to know of them."""

from collections.abc import Mapping, Sequence

import msgspec

from shipper.parsers.records import PARSE_ERROR, TRUNCATED, Records
from shipper.record import START, Extent, Ranges, State


class Summary(msgspec.Struct):
    """Both twins of `encode` give one; it does not grow with the number of ordinary records. Offsets are absolute."""

    records: int
    source_bytes: int  # what they took in the log file: all lines of each
    consumed: int  # where the first unfinished record begins
    state: State = START  # for reading on there
    ahead: Ranges = ()  # lines beyond `consumed` that belong to these records, or did to earlier ones
    new_records: int = 0  # those that end beyond what was `known`
    # begin -> bytes, of records that others stand in
    odd_sizes: Mapping[int, int] = msgspec.field(default_factory=dict)
    places: Sequence[Extent] = ()  # of each record; only where an output has no ids that tell it
    joined: int = 0  # records made of several lines
    truncated: int = 0
    parse_error: int = 0
    invalid_utf8: int = 0  # records with bytes that became U+FFFD
    empties: int = 0  # lines that are no records: empty ones of local files
    empty_bytes: int = 0

    def oddities(self) -> dict[str, int]:
        """What people may want to know of, by kind; without what did not occur."""
        odd = {kind: getattr(self, kind) for kind in ("joined", "truncated", "parse_error", "invalid_utf8")}
        return {kind: times for kind, times in odd.items() if times}

    @classmethod
    def of(cls, records: Records, *, known: int = 0, invalid_utf8: int = 0, with_places: bool = False) -> "Summary":
        """`known`: what ends up to there was read before."""
        size, marks = sum(records.sizes), records.marks.values()
        found = cls(len(records), size, records.consumed, records.state, records.ahead)
        if with_places:
            found.places = tuple(zip(records.begins, records.ends, records.sizes, strict=True))
        if sum(records.ends) - sum(records.begins) != size:  # lines of the other stream stand in some of them
            rows = zip(records.begins, records.ends, records.sizes, strict=True)
            found.odd_sizes = {begin: own for begin, end, own in rows if end - begin != own}
        is_new = not records.ends or known <= records.begins[0]
        found.new_records = len(records) if is_new else sum(end > known for end in records.ends)
        found.joined, found.invalid_utf8 = records.joined, invalid_utf8
        found.truncated = sum(TRUNCATED in mark for mark in marks)
        found.parse_error = sum(PARSE_ERROR in mark for mark in marks)
        found.empties, found.empty_bytes = records.empties, records.empty_bytes
        return found
