"""Whose records an object holds: gathered while it is filled, kept in its row, told in the manifest.

Once per piece of a batch, never per record: times are those of each piece's first and last record.
"""

import re

import msgspec

from shipper.delivery import Piece
from shipper.record import Ranges
from shipper.template import parse_time

_TIME = re.compile(rb'"@timestamp":"([^"]*)"')
_HEAD_BYTES = 512  # an id and a time are less
_STEP_BYTES = 4096
_IN_UTC = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")  # as runtimes write it
_FRACTION = re.compile(rb"\.(\d+)")


class Origin(msgspec.Struct, array_like=True):
    """A log file that records come from; what is None does not apply to it."""

    path: str | None
    namespace: str | None
    pod: str | None
    uid: str | None
    container: str | None
    restart: int | None
    records: int = 0  # one that begins in another file is counted there
    bytes: int = 0  # of the file, lines and all: as the ledger counts
    ranges: tuple[tuple[int, int], ...] = ()  # of the file, which hold these records, and maybe others


class Contents(msgspec.Struct):
    first_time: str = ""  # UTC, nine digits behind the second: such texts sort by time
    last_time: str = ""
    origins: dict[int, Origin] = msgspec.field(default_factory=dict)  # by the row id of the log file's generation

    def add(self, piece: Piece, documents: memoryview) -> None:
        """`documents`: the piece's own."""
        times = [time for time in (_time_at(documents, 0), _time_at(documents, _last_line(documents))) if time]
        if times:
            self.first_time = min([self.first_time or times[0], *times])
            self.last_time = max(self.last_time, *times)
        ranges = piece.span.ranges()
        for generation, size in piece.span.shares(piece.source_bytes).items():
            origin = self.origins.get(generation) or self.origins.setdefault(generation, _origin(piece))
            origin.records += piece.records if generation == piece.span.generation else 0
            origin.bytes += size
            origin.ranges = merged((*origin.ranges, *ranges.get(generation, ())))


def merged(ranges: Ranges) -> Ranges:
    """Sorted, and apart from each other."""
    out: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if out and begin <= out[-1][1]:
            out[-1] = out[-1][0], max(out[-1][1], end)
        elif begin < end:
            out.append((begin, end))
    return tuple(out)


def in_utc(time: bytes) -> str:
    """RFC 3339 in a form that sorts by time; empty for what is no time."""
    if usual := _IN_UTC.fullmatch(time):
        return f"{usual[1].decode()}.{(usual[2] or b'').decode():0<9}Z"
    parsed = parse_time(time)
    if parsed is None:
        return ""
    found = _FRACTION.search(time)
    digits = found[1].decode()[:9] if found else ""
    return f"{parsed.replace(tzinfo=None).isoformat()}.{digits:0<9}Z"


def _last_line(documents: memoryview) -> int:
    """Where it begins: looked for from the end, in steps that grow."""
    size, step = len(documents), _STEP_BYTES
    while True:
        start = max(size - step, 0)
        found = bytes(documents[start : size - 1]).rfind(b"\n")
        if found >= 0 or start == 0:
            return start + found + 1
        step *= 8


def _time_at(documents: memoryview, start: int) -> str:
    """Our own members stand before all of the application's."""
    found = _TIME.search(bytes(documents[start : start + _HEAD_BYTES]))
    return in_utc(found[1]) if found else ""


def _origin(piece: Piece) -> Origin:
    source = piece.source
    path = None if source.is_container else _shown(source.path)
    names = [_shown(name) for name in (source.namespace, source.pod, source.uid, source.container)]
    return Origin(path, names[0], names[1], names[2], names[3], source.restart)


def _shown(name: str | None) -> str | None:
    """Names of files are any bytes: what is no UTF-8 in them, and so a lone surrogate, becomes an escape."""
    return None if name is None else name.encode(errors="backslashreplace").decode()
