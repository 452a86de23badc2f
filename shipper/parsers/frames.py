"""From bytes to records, for each way in which a file frames them."""

from typing import Literal, get_args

from msgspec.structs import replace

from shipper.parsers import cri, docker, local
from shipper.parsers.framed import Framed
from shipper.parsers.join import beyond, join
from shipper.parsers.lines import FirstPiece, Lines, split_lines, whole_line
from shipper.parsers.records import Records
from shipper.record import START, Ranges, State

Format = Literal["cri", "docker", "json", "text"]
FORMATS: tuple[Format, ...] = get_args(Format)

_FIRST_PIECE: dict[Format, FirstPiece] = {
    "cri": cri.first_piece,
    "docker": docker.first_piece,
    "json": whole_line,
    "text": whole_line,
}


def detect_format(line: bytes) -> Format:
    """Of a file, by its first complete line (without newline)."""
    if cri.is_cri(line):
        return "cri"
    if docker.is_docker(line):
        return "docker"
    return "json" if local.is_json(line) else "text"


def parse(
    data: bytes,
    offset: int,
    framing: Format,
    *,
    state: State = START,
    skip: Ranges = (),
    final: bool = False,
    hold: bool = True,
    limit: int = 1 << 20,
    read_time: bytes = b"",
) -> Records:
    """Complete records of `data`, which begins at `offset`, where `state` was known.

    `skip`: ranges beyond `offset` that were given out before. `final`: nothing will ever follow, so that an unfinished
    line or record is complete. `hold`: whether an open record keeps back those behind it. `limit`: bytes of a
    record's content. `read_time`: for records that carry no time of their own.
    """
    framed = _frame_at_once(data, offset, state=state, final=final, limit=limit) if framing == "cri" else None
    if framed is None:
        lines = _split(data, offset, framing, state=state, final=final, limit=limit)
        if not lines.texts:
            return Records(consumed=lines.end, state=state, ahead=beyond(skip, lines.end))
        if framing in ("json", "text"):
            return local.records(lines, framing, state, read_time)
        framed = _frame(lines, framing, state)
    new = with_new_lines(framed, framing, skip, limit)
    records, cut = join(new, state.cut, skip=skip, final=final, hold=hold, limit=limit, seen=offset + len(data))
    records.state = replace(framed.state_at(records.consumed, state), cut=cut)
    return records


def frame_lines(data: bytes, offset: int, framing: Format, *, state: State, limit: int) -> Framed | None:
    """Complete lines of a container's log, as `parse` sees them before it joins them; None where there are none."""
    lines = _split(data, offset, framing, state=state, final=False, limit=limit)
    return _frame(lines, framing, state) if lines.texts and framing in ("cri", "docker") else None


def with_new_lines(framed: Framed, framing: Format, skip: Ranges, limit: int) -> Framed:
    """Those that were not given out before, their bodies no longer than `limit`."""
    new = framed.without(skip) if skip else framed
    return new.with_short_bodies(limit) if framing == "docker" else new


def _frame_at_once(data: bytes, offset: int, *, state: State, final: bool, limit: int) -> Framed | None:
    """What `_split` and `_frame` say of an ordinary chunk of CRI lines; None for any other."""
    end = data.rfind(b"\n") + 1
    rest = len(data) - end
    if state.inside or (rest and final) or rest > limit:
        return None
    found = cri.regular(data[:end], offset, limit=limit)
    return None if found is None else Framed(found[0], *found[1])


def _split(data: bytes, offset: int, framing: Format, *, state: State, final: bool, limit: int) -> Lines:
    return split_lines(
        data, offset, limit=limit, first_piece=_FIRST_PIECE[framing], final=final, inside=bool(state.inside)
    )


def _frame(lines: Lines, framing: Format, state: State) -> Framed:
    columns = (cri if framing == "cri" else docker).columns(lines.texts)
    framed = Framed(lines, *columns)
    framed.mend(framing, state)
    return framed
