"""Records out of an archived object, whichever way it was packed: what it begins with tells, not its name.

An object is checked to its end before anything of it is used, since what is damaged shows only there. Everything here
blocks, and needs memory for a piece of the object, not for all of it.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import IO

from shipper.errors import ShipperError
from shipper.outputs.s3.compression import NotWhole, packing_of, unpack
from shipper.outputs.s3.config import PARQUET_MISSING

_BEGINNINGS = (b'{"_id":"', b'{"@timestamp":"')  # of archived documents
_PARQUET = b"PAR1"
_LONGEST_LINE = 2**28  # more than any record's limit: what has no newline for so long is no archive


class Damaged(ShipperError):
    """It began as an archived object, and cannot be read to its end."""


class NotOurs(ShipperError):
    """It holds something else than archived documents."""


def check(file: IO[bytes]) -> None:
    """Raises Damaged and NotOurs."""
    if _is_parquet(file):
        with _parquet() as parquet:
            parquet.check(file)
        return
    for _ in pages(file):
        """To its end."""


def pages(file: IO[bytes]) -> Iterator[list[bytes]]:
    """Documents as they were archived, without newlines, some hundred kilobytes at a time."""
    if _is_parquet(file):
        return _rows(file)
    return _lines(unpack(file, packing_of(file)))


def _lines(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest, is_first = b"", True
    try:
        for piece in pieces:
            whole, newline, end = piece.rpartition(b"\n")
            if is_first and not (rest + piece)[:16].startswith(_BEGINNINGS):
                raise NotOurs("it holds no archived documents")
            is_first = False
            if newline:
                yield (rest + whole).split(b"\n")
                rest = end
            else:
                rest += piece
            if len(rest) > _LONGEST_LINE:
                raise Damaged(f"it has a line of more than {_LONGEST_LINE} bytes")
    except NotWhole as exc:
        raise Damaged(str(exc)) from exc
    if is_first:
        raise NotOurs("it is empty")
    if rest:
        raise Damaged("its last line has no end")


def _is_parquet(file: IO[bytes]) -> bool:
    file.seek(0)
    return file.read(len(_PARQUET)) == _PARQUET


def _rows(file: IO[bytes]) -> Iterator[list[bytes]]:
    with _parquet() as parquet:
        yield from parquet.read(file)


@contextmanager
def _parquet() -> Iterator[ModuleType]:
    """Its library is there only where somebody wants it."""
    try:
        from shipper.outputs.s3 import parquet
    except ImportError as exc:
        raise NotOurs(PARQUET_MISSING) from exc
    try:
        yield parquet
    except parquet.OtherColumns as exc:
        raise NotOurs(str(exc)) from exc
    except NotWhole as exc:
        raise Damaged(str(exc)) from exc
