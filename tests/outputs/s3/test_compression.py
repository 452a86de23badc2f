"""What is appended in pieces is read back as one, by readers that know nothing of pieces."""

import gzip
import io
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from isal import isal_zlib

from shipper.outputs.s3.compression import CODECS, extend_crc32

APPENDS = st.lists(st.lists(st.binary(max_size=300), max_size=4), max_size=6)


def joined(appends: list[list[bytes]]) -> bytes:
    return b"".join(part for parts in appends for part in parts)


@given(APPENDS)
def test_gzip_is_one_member_whatever_is_appended(appends: list[list[bytes]]) -> None:
    codec = CODECS["gzip"]
    plain, crc32 = joined(appends), 0
    for each in appends:
        crc32 = extend_crc32(each, crc32)
    packed = codec.header + b"".join(map(codec.pack, appends)) + codec.trailer(crc32, len(plain))
    member = zlib.decompressobj(wbits=31)
    assert member.decompress(packed) == plain
    assert member.eof
    assert member.unused_data == b""
    assert gzip.decompress(packed) == isal_zlib.decompress(packed, wbits=31) == plain


@given(APPENDS)
def test_zstd_frames_follow_each_other(appends: list[list[bytes]]) -> None:
    codec = CODECS["zstd"]
    packed = b"".join(map(codec.pack, appends)) + codec.trailer(0, 0)
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed), read_across_frames=True)
    assert reader.read() == joined(appends)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_the_same_records_give_the_same_bytes(compression: str) -> None:
    codec = CODECS[compression]  # type: ignore[index]
    assert codec.pack([b"hello\n" * 1000, b"bye\n"]) == codec.pack([b"hello\n" * 1000, b"bye\n"])


def test_the_size_in_the_trailer_counts_modulo_4_gib() -> None:
    assert CODECS["gzip"].trailer(1, 2**32 + 5)[-4:] == b"\x05\x00\x00\x00"
