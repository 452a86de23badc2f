"""An object that takes no more records, as the file that is uploaded: what was spooled, or the Parquet made of it.

That file is made again whenever it is not there, so no commit tells of it, and the spool's start deletes it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from shipper.outputs.appended_files import FileDamaged
from shipper.outputs.s3.compression import NotWhole, extend_crc32, unpack
from shipper.outputs.s3.spool import SpooledObject


class ClosedObject(NamedTuple):
    """The first `length` bytes of a file, and then the trailer."""

    path: Path
    length: int
    trailer: bytes
    is_made: bool = False  # of what was spooled, and can be made again

    @property
    def size(self) -> int:
        return self.length + len(self.trailer)


class _Beginning:
    """Of a file: what lies behind it was confirmed by nobody."""

    def __init__(self, file: IO[bytes], length: int) -> None:
        self._file, self._length = file, length

    def seek(self, place: int, /) -> int:
        return self._file.seek(place)

    def read(self, size: int, /) -> bytes:
        return self._file.read(max(min(size, self._length - self._file.tell()), 0))


def parquet_path(path: Path) -> Path:
    """Beside a spool file."""
    return path.with_name(f"{path.name}.parquet")


def closed_object(path: Path, row: SpooledObject) -> ClosedObject:
    """Blocks. Raises FileDamaged when what was spooled is not what was written, OSError when the disk refuses."""
    if row.parquet is None:
        return ClosedObject(path, row.length, row.trailer)
    made = parquet_path(path)
    if not made.exists():
        from shipper.outputs.s3 import parquet

        aside = made.with_name(f"{made.name}.new")
        try:
            parquet.write(_documents(path, row), aside, compression=row.parquet)
            aside.replace(made)
        except (NotWhole, FileNotFoundError) as exc:
            raise FileDamaged(path) from exc
        finally:
            aside.unlink(missing_ok=True)
    return ClosedObject(made, made.stat().st_size, b"", is_made=True)


def _documents(path: Path, row: SpooledObject) -> Iterator[bytes]:
    """Without newlines. Raises NotWhole also when they are others than were written."""
    rest, crc32 = b"", 0
    with path.open("rb") as file:
        for piece in unpack(_Beginning(file, row.length), row.compression):
            crc32 = extend_crc32([piece], crc32)
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
    if rest or crc32 != row.crc32:
        raise NotWhole(f"the spooled documents of {row.key} are not those that were written")
