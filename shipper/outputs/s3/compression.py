"""How appends to a spool file add up to one compressed object, whose bytes depend on nothing but what was appended.

gzip (RFC 1952): one member. Each append is a run of deflate blocks that ends in a full flush (on a byte's edge,
and without references to what came before), so that appends can be cut off again. Checksum and size come on upload.
zstd (RFC 8878): each append is a frame; decoders read them one after the other.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

import zstandard
from isal import igzip, isal_zlib
from isal.igzip_lib import IsalError

from shipper.errors import ShipperError

Compression = Literal["gzip", "zstd", "none"]
Parts = Sequence[bytes | memoryview]  # what is appended at once, in order

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time: the same bytes every time
_DEFLATE_END = b"\x03\x00"  # an empty final block
_ISAL_LEVEL = 2  # of 0 to 3
_ZSTD_LEVEL = 3
_PIECE_BYTES = 2**18  # decompressed, but for a zstd block that grows more
_READ_BYTES = 2**14  # of what is compressed
_MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}


class Packed(Protocol):
    """A file that is open for reading."""

    def seek(self, place: int, /) -> int: ...

    def read(self, size: int, /) -> bytes: ...


class NotWhole(ShipperError):
    """Packed bytes that are damaged, or were cut off."""


class Codec(NamedTuple):
    """`header + pack([a, b]) + pack([c]) + trailer(crc32(a + b + c), len(a + b + c))` is an object of a + b + c."""

    content_type: str
    header: bytes
    pack: Callable[[Parts], bytes]
    trailer: Callable[[int, int], bytes]


def _deflate(parts: Parts) -> bytes:
    deflate = isal_zlib.compressobj(_ISAL_LEVEL, isal_zlib.DEFLATED, -15)
    return b"".join([*map(deflate.compress, parts), deflate.flush(isal_zlib.Z_FULL_FLUSH)])


def _gzip_trailer(crc32: int, plain_bytes: int) -> bytes:
    return _DEFLATE_END + struct.pack("<II", crc32, plain_bytes & 0xFFFFFFFF)


def _zstd(parts: Parts) -> bytes:
    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
    frame = compressor.compressobj(size=sum(map(len, parts)))
    return b"".join([*map(frame.compress, parts), frame.flush()])


def _nothing(_crc32: int, _plain_bytes: int) -> bytes:
    return b""


CODECS: dict[Compression, Codec] = {
    "gzip": Codec("application/gzip", _GZIP_HEADER, _deflate, _gzip_trailer),
    "zstd": Codec("application/zstd", b"", _zstd, _nothing),
    "none": Codec("application/x-ndjson", b"", b"".join, _nothing),
}
PARQUET_TYPE = "application/vnd.apache.parquet"


def extend_crc32(parts: Parts, crc32: int) -> int:
    for part in parts:
        crc32 = isal_zlib.crc32(part, crc32)
    return crc32


def packing_of(file: Packed) -> Compression:
    """By its first bytes."""
    file.seek(0)
    return _MAGIC.get(file.read(2), "none")


def unpack(file: Packed, compression: Compression) -> Iterator[bytes]:
    """What an object was made of, a few hundred kilobytes at a time. Raises NotWhole, maybe only at its end."""
    file.seek(0)
    return {"gzip": _gunzip, "zstd": _unzstd, "none": _plain}[compression](file)


def _plain(file: Packed) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece


def _gunzip(file: Packed) -> Iterator[bytes]:
    try:
        with igzip.IGzipFile(fileobj=file, mode="rb") as unpacked:  # type: ignore[no-untyped-call]
            while piece := unpacked.read(_PIECE_BYTES):
                yield piece
    except (EOFError, OSError, zlib.error, IsalError) as exc:  # type: ignore[misc]  # its stub knows no base
        raise NotWhole(f"its gzip is damaged: {exc}") from exc


def _unzstd(file: Packed) -> Iterator[bytes]:
    """Frame by frame, since zstandard's readers take a frame that was cut off for a whole one."""
    decompressor = zstandard.ZstdDecompressor()
    frame, is_inside = decompressor.decompressobj(), False
    try:
        while packed := file.read(_READ_BYTES):
            while packed:
                if piece := frame.decompress(packed):
                    yield piece
                is_inside, packed = not frame.eof, frame.unused_data
                if frame.eof:
                    frame = decompressor.decompressobj()
    except zstandard.ZstdError as exc:
        raise NotWhole(f"its zstd is damaged: {exc}") from exc
    if is_inside:
        raise NotWhole("its zstd is damaged: it was cut off")
