"""A record over a rotation: both files give what one file would have given."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.parsers import Ranges, Records, State, parse
from shipper.parsers.seam import join_over_rotation
from tests.parsers import oracle
from tests.parsers.oracle import Record
from tests.parsers.strategies import CRI_LINES, REGULAR_CRI_LINES
from tests.parsers.test_parse import FIRST_TIME, rows

LINES = st.lists(CRI_LINES | REGULAR_CRI_LINES, max_size=8).map(lambda lines: b"".join(line + b"\n" for line in lines))
ENDS = b"2026-11-21T10:00:09Z stdout F end\n2026-11-21T10:00:09Z stderr F end\n"


def moved(records: list[Record], by: int) -> list[Record]:
    return [replace(record, begin=record.begin + by, end=record.end + by) for record in records]


def read_to_its_end(old: bytes, limit: int, *, hold: bool) -> tuple[list[Record], Records]:
    records = parse(old, 0, "cri", state=State(FIRST_TIME), limit=limit, hold=hold)
    return rows(records), records


@given(old=LINES, new=LINES, limit=st.sampled_from([64, 150, 1 << 20]), hold=st.booleans())
@settings(max_examples=150, deadline=None)
def test_two_files_give_the_records_of_one(old: bytes, new: bytes, limit: int, *, hold: bool) -> None:
    new += ENDS
    found, before = read_to_its_end(old, limit, hold=hold)
    position, border, state = 0, len(old), before.state
    ahead: Ranges = ()
    if before.consumed < border:
        tail = old[before.consumed :]
        seam = join_over_rotation(tail, before.consumed, new, "cri", state=before.state, skip=before.ahead, limit=limit)
        assert seam is not None
        for record, crosses, old_size in zip(rows(seam.records), seam.crosses, seam.old_sizes, strict=True):
            found.append(replace(record, end=record.end + border) if crosses else record)
            assert old_size < record.size if crosses else old_size == record.size
        position, ahead = seam.position, seam.ahead
        state = State(b"") if seam.state is None else seam.state
    assert position + sum(b - a for a, b in ahead) + border == sum(r.size for r in found)
    last = parse(new[position:], position, "cri", state=state, skip=ahead, limit=limit, final=True)
    found += moved(rows(last), border)
    expected = oracle.read_file(old + new, "cri", limit=limit, first_time=FIRST_TIME)
    assert sorted(found, key=lambda record: record.end) == expected.records


@given(old=LINES, limit=st.sampled_from([64, 1 << 20]))
def test_new_file_is_waited_for_until_it_ends_what_is_open(old: bytes, limit: int) -> None:
    old += b"2026-11-21T10:00:09Z stdout P open\n"
    begin = old.rindex(b"2026")
    assert join_over_rotation(old[begin:], begin, b"", "cri", state=State(), skip=(), limit=limit) is None
    half = b"2026-11-21T10:00:09Z stdout F not yet a li"
    assert join_over_rotation(old[begin:], begin, half, "cri", state=State(), skip=(), limit=limit) is None
    assert join_over_rotation(old[begin:-1], begin, ENDS, "cri", state=State(), skip=(), limit=limit) is None
