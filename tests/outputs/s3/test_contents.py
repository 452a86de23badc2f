"""What is noted of an object's records, once a piece: times that can be compared, ranges that grow together."""

import pytest

from shipper.outputs.s3.contents import Contents, in_utc, merged
from tests.fakes.host import batch_of


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"2026-11-21T10:00:00Z", "2026-11-21T10:00:00.000000000Z"),
        (b"2026-11-21T10:00:00.5Z", "2026-11-21T10:00:00.500000000Z"),
        (b"2026-11-21T10:00:00.123456789Z", "2026-11-21T10:00:00.123456789Z"),
        (b"2026-11-21T10:00:00.123456789+02:00", "2026-11-21T08:00:00.123456789Z"),
        (b"2026-11-21T10:00:00.1234567890123Z", "2026-11-21T10:00:00.123456789Z"),
        (b"0001-01-01T00:00:00-01:00", "0001-01-01T01:00:00.000000000Z"),
        (b"yesterday", ""),
        (b"", ""),
    ],
)
def test_times_are_written_so_that_they_sort(written: bytes, said: str) -> None:
    assert in_utc(written) == said


def test_ranges_grow_together_in_any_order() -> None:
    assert merged(((10, 20), (0, 10), (30, 40), (35, 50), (60, 60))) == ((0, 20), (30, 50))
    assert merged(()) == ()


def test_the_last_record_is_found_however_long_it_is() -> None:
    texts = (b"a", b"b" * 100_000, b"c" * 1_000_000)
    lines = [b'{"@timestamp":"2026-11-21T10:00:0%dZ","x":"%b"}\n' % (n, text) for n, text in enumerate(texts)]
    for count in (1, 2, 3):
        (piece,) = batch_of(("logs", lines[:count])).pieces
        contents = Contents()
        contents.add(piece, memoryview(b"".join(lines[:count])))
        assert contents.first_time == "2026-11-21T10:00:00.000000000Z"
        assert contents.last_time == f"2026-11-21T10:00:0{count - 1}.000000000Z"


def test_documents_without_a_time_have_none() -> None:
    (piece,) = batch_of(("logs", [b'{"_id":"1","message":"no time"}\n'])).pieces
    contents = Contents()
    contents.add(piece, memoryview(b'{"_id":"1","message":"no time"}\n'))
    assert (contents.first_time, contents.last_time) == ("", "")
