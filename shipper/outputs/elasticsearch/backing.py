"""Which indices stand behind a data stream or alias, and which of them a batch may have reached. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import orjson

from shipper.body import view_of
from shipper.delivery import Batch

# The clocks of this node and of the server may differ by so much; looking back too far costs one more question.
MARGIN_S = 900.0
YOUNGEST = 2  # are asked always: so one rollover is seen whatever the clocks say


class Document(NamedTuple):
    """How the server knows a record."""

    target: str  # as it was addressed: data stream, alias or index
    id: str
    routing: str | None


class _Metadata(msgspec.Struct):
    index: str = msgspec.field(name="_index", default="")
    id: str = msgspec.field(name="_id", default="")
    routing: str | None = None


class _Action(msgspec.Struct):
    create: _Metadata


class _Index(msgspec.Struct):
    creation_date: str


class _Settings(msgspec.Struct):
    index: _Index


class _Described(msgspec.Struct):
    settings: _Settings


_decode_action = msgspec.json.Decoder(_Action).decode
_decode_indices = msgspec.json.Decoder(dict[str, _Described]).decode


def documents_of(batch: Batch, default_target: str) -> list[Document]:
    """From the action lines, in order."""
    actions = (_decode_action(line).create for line in bytes(view_of(batch.body)).split(b"\n")[:-1:2])
    return [Document(action.index or default_target, action.id, action.routing) for action in actions]


def creation_times(body: bytes) -> dict[str, float]:
    """From `GET /TARGET/_settings/index.creation_date`: index -> seconds since the epoch.

    Raises msgspec.DecodeError, UnicodeDecodeError or ValueError for what is none.
    """
    return {name: int(one.settings.index.creation_date) / 1000 for name, one in _decode_indices(body).items()}


def reachable(target: str, created: Mapping[str, float], since: float) -> list[str]:
    """The indices that may have been written to through `target` since then, the youngest first.

    An index that has the target's own name is a plain one: ids are unique in it, and nothing need be asked. Where a
    target rolls over, each index is written to until the next one is made.
    """
    if target in created:
        return []
    youngest_first = sorted(created, key=lambda name: (created[name], name), reverse=True)
    made_since = sum(time >= since - MARGIN_S for time in created.values())
    return youngest_first[: max(made_since + 1, YOUNGEST)]


def question(documents: list[Document]) -> bytes:
    """Body of a `_mget`."""
    if all(document.routing is None for document in documents):
        return orjson.dumps({"ids": [document.id for document in documents]})
    rows = [{"_id": d.id} | ({} if d.routing is None else {"routing": d.routing}) for d in documents]
    return orjson.dumps({"docs": rows})
