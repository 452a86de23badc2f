"""Which record of a batch is which: what is needed when a batch did not go through as a whole."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import msgspec

from shipper.body import new_body
from shipper.delivery import Batch, Delivery, Piece, Rejection

_OFFSETS = re.compile(rb'"_id":"([^"]*-([0-9a-f]+)-([0-9a-f]+))"')


class Letter(msgspec.Struct, frozen=True):
    """A rejected record, for the dead letters."""

    output: str
    piece: Piece
    reason: str
    detail: str
    begin: int
    end: int
    source_bytes: int
    document: bytes
    document_id: str | None


class Place(NamedTuple):
    """Where a record of a batch comes from: its piece, and its number there."""

    piece: Piece
    number: int

    def extent(self, document: bytes) -> tuple[int, int, int]:
        """(begin, end, bytes) in the log file: as noted, else from the id."""
        if self.piece.places:
            return self.piece.places[self.number]
        found = _OFFSETS.search(document)
        if found is None:
            raise ValueError("a document without an id has no place")
        begin, end = int(found[2], 16), int(found[3], 16)
        return begin, end, self.piece.odd_sizes.get(begin, end - begin)


def places_of(batch: Batch) -> list[Place]:
    return [Place(piece, i) for piece in batch.pieces for i in range(piece.records)]


def check_fates(delivery: Delivery, records: int) -> None:
    """Raises ValueError for fates that do not fit a batch of so many records."""
    rejected = [rejection.index for rejection in delivery.rejected]
    named = [*delivery.retry, *rejected]
    if len(set(named)) < len(named) or any(not 0 <= index < records for index in named):
        raise ValueError(f"not one fate for each of {records} records: retry {delivery.retry}, rejected {rejected}")
    if not set(delivery.reencode) <= set(delivery.retry) or (delivery.split and named):
        raise ValueError(f"contradicts itself: {delivery}")


def subset(batch: Batch, indices: Iterable[int], documents: Sequence[bytes] | None = None) -> Batch:
    """A batch of some of the records, in order, as `documents` have them; its pieces point to the same spans."""
    texts, places = documents or batch.documents(), places_of(batch)
    out = msgspec.structs.replace(batch, body=new_body(), pieces=[], records=0, memo=dict(batch.memo))
    for _, group in groupby(indices, lambda i: id(places[i].piece)):
        chosen = list(group)
        piece, start = places[chosen[0]].piece, len(out.body)
        extents = [places[i].extent(texts[i]) for i in chosen]
        out.body += b"".join([texts[i] for i in chosen])
        out.pieces.append(
            msgspec.structs.replace(
                piece,
                start=start,
                end=len(out.body),
                records=len(chosen),
                source_bytes=sum(size for _, _, size in extents),
                places=tuple(extents) if piece.places else (),
            )
        )
        out.records += len(chosen)
    return out


def make_letter(output: str, documents: Sequence[bytes], places: Sequence[Place], rejection: Rejection) -> Letter:
    piece, document = places[rejection.index].piece, documents[rejection.index]
    begin, end, size = places[rejection.index].extent(document)
    found = None if piece.places else _OFFSETS.search(document)
    return Letter(
        output=output,
        piece=piece,
        reason=rejection.reason,
        detail=rejection.detail,
        begin=begin,
        end=end,
        source_bytes=size,
        document=document.rstrip(b"\n").rpartition(b"\n")[2],
        document_id=found[1].decode() if found else None,
    )
