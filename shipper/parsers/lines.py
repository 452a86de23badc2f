"""Cuts a chunk into lines, and too long lines into pieces: the same ones wherever a read began or ended."""

from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import msgspec

from shipper.parsers.utf8 import cut_before

FULL, PART = b"F", b"P"  # a line ends its record, or leaves it open (CRI's own letters)

FirstPiece = Callable[[bytes, int], int]  # (begin of a line or all of it, limit) -> bytes up to its first cut


class Piece(NamedTuple):
    """Of a too long line."""

    continues: bool  # others of its line stand before it
    goes_on: bool  # others follow


class Lines(msgspec.Struct):
    """Complete lines of a chunk as columns; a too long line is several."""

    begins: list[int]
    ends: list[int]  # newlines included
    texts: list[bytes]  # without newline; where all lines have a frame it is enough that there are as many
    end: int  # where the first line begins that is not complete
    pieces: dict[int, Piece] = msgspec.field(default_factory=dict)


def whole_line(_text: bytes, limit: int) -> int:
    """The `FirstPiece` of lines that are nothing but content."""
    return limit


def split_lines(data: bytes, offset: int, *, limit: int, first_piece: FirstPiece, final: bool, inside: bool) -> Lines:
    """A line without its newline is left out, unless the file is final or the line is too long already.

    `limit`: bytes of content; `inside`: the chunk begins within a too long line.
    """
    texts = data.split(b"\n")
    rest = texts.pop()
    lengths = [len(text) + 1 for text in texts]
    if rest and (final or len(rest) > limit):
        texts.append(rest)
        lengths.append(len(rest))
    lines = between(offset, lengths, texts)
    if texts and (inside or max(lengths) > limit):
        return _cut(lines, limit, first_piece, inside=inside, is_open=bool(rest) and not final)
    return lines


def between(offset: int, lengths: list[int], texts: list[bytes]) -> Lines:
    """Lines of these lengths, one behind the other."""
    bounds = list(accumulate(lengths, initial=offset))
    return Lines(bounds[:-1], bounds[1:], texts, bounds[-1])


def _cut(lines: Lines, limit: int, first_piece: FirstPiece, *, inside: bool, is_open: bool) -> Lines:
    """`is_open`: the last line has no newline yet; what is left of it after its last cut may still grow."""
    out = Lines([], [], [], lines.end)
    last = len(lines.texts) - 1
    for i, (begin, end, text) in enumerate(zip(lines.begins, lines.ends, lines.texts, strict=True)):
        continues, at = inside and i == 0, 0
        step = limit if continues else first_piece(text, limit)
        while len(text) - at > step:
            to = cut_before(text, at, at + step)
            _add(out, begin + at, begin + to, text[at:to], Piece(continues, goes_on=True))
            continues, at, step = True, to, limit
        if i == last and is_open and len(text) == end - begin:
            out.end = begin + at
        else:
            _add(out, begin + at, end, text[at:], Piece(continues, goes_on=False))
    return out


def _add(out: Lines, begin: int, end: int, text: bytes, piece: Piece) -> None:
    if any(piece):
        out.pieces[len(out.texts)] = piece
    out.begins.append(begin)
    out.ends.append(end)
    out.texts.append(text)
