"""`parse` against the oracle, and the invariants of reading in chunks."""

from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.parsers import FORMATS, Format, Ranges, Records, State, detect_format, docker, parse
from shipper.parsers import join as joining
from tests.parsers import oracle
from tests.parsers.oracle import Record
from tests.parsers.strategies import FILES, INTERLEAVED

FIRST_TIME, READ_TIME = b"2026-01-01T00:00:00Z", b"2026-12-31T00:00:00Z"
LIMITS = st.sampled_from([4, 17, 64, 100, 1 << 20])
SPANS = st.sampled_from([0, 100, joining.SPAN_BYTES])
Cursor = tuple[int, State, Ranges]
START_CURSOR: Cursor = (0, State(FIRST_TIME), ())


def rows(records: Records) -> list[Record]:
    columns = zip(
        records.begins, records.ends, records.sizes, records.times, records.streams, records.bodies, strict=True
    )
    return [
        Record(
            begin,
            end,
            size,
            time,
            stream.decode(),
            body,
            truncated=b"truncated" in records.marks.get(i, b""),
            fits=b"parse_error" not in records.marks.get(i, b""),
        )
        for i, (begin, end, size, time, stream, body) in enumerate(columns)
    ]


def read(data: bytes, framing: Format, cursor: Cursor, *, size: int, hold: bool, limit: int, final: bool) -> Records:
    position, state, ahead = cursor
    is_end = position + size >= len(data)
    return parse(
        data[position : position + size],
        position,
        framing,
        state=state,
        skip=ahead,
        final=final and is_end,
        hold=hold,
        limit=limit,
        read_time=READ_TIME,
    )


def covered(cursor: Cursor) -> int:
    return cursor[0] + sum(end - begin for begin, end in cursor[2])


@pytest.mark.parametrize("framing", FORMATS)
@given(data=st.data(), limit=LIMITS, span=SPANS)
@settings(max_examples=150, deadline=None)
def test_whole_file_gives_the_records_of_the_oracle(
    framing: Format, data: st.DataObject, limit: int, span: int
) -> None:
    text = data.draw(FILES[framing])
    expected = oracle.read_file(text, framing, limit=limit, first_time=FIRST_TIME, read_time=READ_TIME, span_bytes=span)
    with mock.patch.object(joining, "SPAN_BYTES", span):
        records = read(text, framing, START_CURSOR, size=len(text) + 1, hold=True, limit=limit, final=True)
    assert rows(records) == expected.records
    assert (records.empties, records.empty_bytes) == (expected.empties, expected.empty_bytes)
    assert (records.consumed, records.ahead) == (len(text), ())
    assert records.joined == sum(
        r.size != r.end - r.begin or b"\n" in text[r.begin : r.end - 1] for r in expected.records
    )


@pytest.mark.parametrize("framing", FORMATS)
@given(data=st.data(), limit=LIMITS, span=SPANS)
@settings(max_examples=200, deadline=None)
def test_any_way_of_reading_gives_the_same_records(framing: Format, data: st.DataObject, limit: int, span: int) -> None:
    text = data.draw(FILES[framing])
    reads = data.draw(st.lists(st.tuples(st.integers(1, 150), st.booleans()), max_size=12))
    with (
        mock.patch.multiple(joining, SPAN_BYTES=span, MOST_AHEAD=10**6),
        mock.patch.object(docker, "FRAME_BYTES", span),
    ):
        whole = read(text, framing, START_CURSOR, size=len(text) + 1, hold=True, limit=limit, final=True)
        assert sorted(collect(text, framing, reads, limit), key=lambda r: r.end) == rows(whole)


@given(
    text=INTERLEAVED,
    reads=st.lists(st.tuples(st.integers(40, 400), st.booleans()), max_size=12),
    limit=st.sampled_from([50, 100, 1 << 20]),
    span=st.sampled_from([0, 1000]),
)
@settings(max_examples=400, deadline=None)
def test_streams_that_interleave_are_joined_alike_wherever_reads_end(
    text: bytes, reads: list[tuple[int, bool]], limit: int, span: int
) -> None:
    with mock.patch.multiple(joining, SPAN_BYTES=span, MOST_AHEAD=10**6):
        found = collect(text, "cri", reads, limit)
        assert sorted(found, key=lambda r: r.end) == oracle.read_file(text, "cri", limit=limit, span_bytes=span).records


def collect(text: bytes, framing: Format, reads: list[tuple[int, bool]], limit: int) -> Iterator[Record]:
    """By reads of these sizes, then by one of all that is left. Every byte is in one record, or empty."""
    cursor, ahead = START_CURSOR, list(reads)
    while cursor[0] < len(text):
        size, hold = ahead.pop(0) if ahead else (len(text) + 1, True)
        records = read(text, framing, cursor, size=size, hold=hold, limit=limit, final=not ahead)
        new = (records.consumed, records.state, records.ahead)
        assert records.consumed >= cursor[0]
        assert all(begin >= records.consumed for begin, _ in records.ahead)
        assert covered(new) - covered(cursor) == sum(records.sizes) + records.empty_bytes
        yield from rows(records)
        cursor = new
    assert cursor[2] == ()


@pytest.mark.parametrize("framing", FORMATS)
@given(data=st.data(), limit=st.sampled_from([4, 17, 64, 100]))
@settings(deadline=None)
def test_an_open_record_never_stops_a_reader_that_waits_for_none(
    framing: Format, data: st.DataObject, limit: int
) -> None:
    text = data.draw(FILES[framing]) * 5
    window = 2 * limit + 200  # with patches of these sizes as the reader's 2 * limit + 256 KiB is to the real ones
    cursor = START_CURSOR
    with mock.patch.object(joining, "SPAN_BYTES", 50), mock.patch.object(docker, "FRAME_BYTES", 100):
        while len(text) - cursor[0] > window:
            records = read(text, framing, cursor, size=window, hold=False, limit=limit, final=False)
            new = (records.consumed, records.state, records.ahead)
            assert new != cursor
            cursor = new


@pytest.mark.parametrize("framing", FORMATS)
@given(
    text=st.binary(max_size=200),
    position=st.integers(0, 1 << 40),
    state=st.builds(
        State,
        st.sampled_from([b"", FIRST_TIME]),
        st.sampled_from([b"", b"stdout F", b"stderr P", b"- F", b"?"]),
        st.sampled_from([(), (b"stdout",), (b"stderr", b"stdout"), (b"-",)]),
    ),
    skip=st.sampled_from([(), ((5, 20),), ((0, 3), (7, 100))]),
    final=st.booleans(),
    hold=st.booleans(),
    limit=st.integers(1, 30),
)
def test_no_bytes_and_no_cursor_make_it_raise(
    framing: Format, text: bytes, position: int, state: State, skip: Ranges, *, final: bool, hold: bool, limit: int
) -> None:
    shifted = tuple((position + begin, position + end) for begin, end in skip)
    records = parse(text, position, framing, state=state, skip=shifted, final=final, hold=hold, limit=limit)
    assert position <= records.consumed <= position + len(text)
    detect_format(text)
