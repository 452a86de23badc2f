"""Log files: whatever bytes, gzipped or not, cut into whatever reads."""

import gzip
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.document import make_envelope, reserved_keys
from shipper.encode import encode
from shipper.frame import Frame, Target
from shipper.inputs.tail import files
from shipper.inputs.tail.files import GzipFile
from shipper.parsers import FORMATS, Format, State
from shipper.parsers import join as joining
from shipper.parsers.json_object import find_objects, is_object, top_members
from shipper.parsers.utf8 import replace_invalid
from shipper.record import Ranges, Source
from tests.fuzz.damage import DAMAGES, Damage
from tests.parsers.strategies import FILES

POD = Source("pods", "/var/log/pods/shop_cart_u-1/app/0.log", "shop", "cart", "u-1", "app", 0)
LOCAL = Source("files", "/var/log/app.log")
BULK = (b'{"create":{"_id":"', b'"}}\n{')


@pytest.mark.parametrize("framing", FORMATS)
@given(
    data=st.data(),
    damage=DAMAGES,
    reads=st.lists(st.tuples(st.integers(1, 300), st.booleans()), max_size=12),
    limit=st.sampled_from([4, 17, 100, 1 << 20]),
    keep_message=st.booleans(),
)
@settings(deadline=None)
def test_any_file_in_any_reads_is_valid_ndjson_with_ids_of_its_own(
    framing: Format,
    data: st.DataObject,
    damage: Damage,
    reads: list[tuple[int, bool]],
    limit: int,
    *,
    keep_message: bool,
) -> None:
    text = damage.of(data.draw(FILES[framing]) * data.draw(st.integers(1, 4)))
    source = POD if framing in ("cri", "docker") else LOCAL
    envelope = make_envelope(source, base="b", frame=BULK, document={}, static={"cluster": "x"})
    frame = Frame(
        framing, keep_message=keep_message, reserved=reserved_keys(source, {"cluster": 1}, has_id=True), limit=limit
    )
    into, position, state, taken = bytearray(), 0, State(b"2026-01-01T00:00:00Z"), 0
    ahead: Ranges = ()
    todo = list(reads)
    with mock.patch.object(joining, "MOST_AHEAD", 10**6):
        while position < len(text):
            size, hold = todo.pop(0) if todo else (len(text) + 1, True)
            before = position + lengths(ahead)
            summary = encode(
                text[position : position + size],
                position,
                frame,
                [Target(envelope, into)],
                skip=ahead,
                final=not todo and position + size >= len(text),
                hold=hold,
                state=state,
                read_time=b"2026-12-31T00:00:00Z",
            )
            assert summary is not None
            position, state, ahead = summary.consumed, summary.state, summary.ahead
            taken += summary.records
            assert position + lengths(ahead) - before == summary.source_bytes + summary.empty_bytes
    lines = bytes(into).split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == 2 * taken
    ids = [orjson.loads(action)["create"]["_id"] for action in lines[0::2]]
    assert len(set(ids)) == len(ids)
    assert find_objects(lines[1::2]) == [True] * taken


def lengths(ranges: Ranges) -> int:
    return sum(end - begin for begin, end in ranges)


TOKENS = st.sampled_from(
    [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b"\\",
        b"\\ud800",
        b"\\u0041",
        b'"a"',
        b"1",
        b"-0.5e9",
        b"null",
        b" ",
        b"\n",
        b"\xff",
    ]
) | st.binary(max_size=3)
NESTED = st.builds(
    lambda left, right, depth, inner: b'{"a":' + left * depth + inner + right * depth + b"}" + b" " * 3000,
    st.sampled_from([b"[", b'{"b":', b'[{"\\ud800":']),
    st.sampled_from([b"]", b"}", b"}]"]),
    st.sampled_from([1, 500, 998, 999, 1000, 1001, 3000]),
    st.sampled_from([b"1", b"[]", b"", b'"]]]"']),
)


@given(st.lists(TOKENS, max_size=30).map(b"".join).map(lambda text: b"{" + text + b"}") | NESTED)
@settings(deadline=None)
def test_the_quick_judge_of_json_says_what_the_slow_one_says(body: bytes) -> None:
    (body,) = replace_invalid([body])[0]
    assert find_objects([body]) == [is_object(body)]
    assert find_objects([body, b"{}"]) == [is_object(body), True]
    if is_object(body):
        assert all(body[member.end : member.end + 1] == b'"' for member in top_members(body))


PLAIN = st.builds(
    lambda unit, n, end: unit * n + end, st.binary(min_size=1, max_size=30), st.integers(0, 400), st.binary()
)
GZIPS = st.lists(PLAIN, min_size=1, max_size=4).map(lambda parts: b"".join(map(gzip.compress, parts)))


@contextmanager
def opened(data: bytes) -> Iterator[GzipFile]:
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.multiple(files, PART_BYTES=700, GZIP_STEP_BYTES=100, RAW_STEP_BYTES=64, MEMBER_WORK_BYTES=10),
    ):
        path = Path(folder) / "x.gz"
        path.write_bytes(data)
        file = files.open_file(str(path), is_gzip=True)
        assert isinstance(file, GzipFile)
        try:
            yield file
        finally:
            file.measurement.close()
            file.close()


def inflated(data: bytes) -> bytes:
    """As far as it goes: by another library, byte by byte."""
    out, left = b"", data
    while left.startswith(b"\x1f\x8b"):
        member = zlib.decompressobj(31)
        try:
            for i in range(len(left)):
                out += member.decompress(left[i : i + 1])
                if member.eof:
                    break
        except zlib.error:
            return out
        if not member.eof:
            return out
        left = left[i + 1 :]
    return out


@given(GZIPS, st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 900), st.booleans()), max_size=12))
@settings(deadline=None)
def test_a_gzipped_file_reads_as_what_it_holds_from_any_place_to_any_other(
    data: bytes, reads: list[tuple[int, int, bool]]
) -> None:
    whole = inflated(data)
    with opened(data) as file:
        for offset, length, releases in reads:
            file.prepare(offset, length)
            assert file.read(offset, length) == whole[offset : offset + length]
            if releases:
                file.release(offset, offset + length // 2)
        while not file.measurement.is_over:
            file.measurement.go_on()
        assert file.size() == len(whole)


@given(st.builds(lambda data, damage: damage.of(data), GZIPS, DAMAGES) | st.binary())
@settings(deadline=None)
def test_a_damaged_gzip_is_a_shorter_file_that_reads_the_same_each_time(data: bytes) -> None:
    with opened(data) as file:
        while not file.measurement.is_over:
            file.measurement.go_on()
        size = file.size()
        found = file.read(0, size)
        assert len(found) == size
        assert b"".join(file.read(at, min(97, size - at)) for at in range(0, size, 97)) == found
