"""Indices and data streams as Elasticsearch keeps them: ids are unique within one backing index only."""

import fnmatch
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

ID = re.compile(rb'"_id"\s*:\s*"([^"]*)"')
INDEX = re.compile(rb'"_index"\s*:\s*"([^"]*)"')
OPERATION = re.compile(rb'\s*\{\s*"(create|index)"\s*:')
SOURCE_EXCERPT = 500


@dataclass(frozen=True, slots=True)
class Write:
    """A document that was stored, in the order of storing."""

    index: str  # as it was addressed: the data stream, not the backing index
    backing: str
    id: str
    source: bytes  # empty when only ids are kept


@dataclass
class Stream:
    name: str
    is_data_stream: bool
    numbers: frozenset[str] = frozenset()  # fields mapped as long
    is_alias: bool = False  # of indices that roll over
    is_write_blocked: bool = False
    backing: list[dict[str, bytes]] = field(default_factory=lambda: [{}])  # the last one is the write index
    created: list[float] = field(default_factory=lambda: [time.time()])  # of each backing index

    def backing_name(self, number: int) -> str:
        rolls_over = self.is_data_stream or self.is_alias
        return f"{'.ds-' * self.is_data_stream}{self.name}{f'-{number + 1:06d}' * rolls_over}"

    def roll_over(self) -> None:
        self.backing.append({})
        self.created.append(time.time())


def error_item(status: int, kind: str, reason: str, cause: Mapping[str, str] | None = None) -> dict[str, Any]:
    error: dict[str, Any] = {"type": kind, "reason": reason}
    if cause is not None:
        error["caused_by"] = cause
    return {"status": status, "error": error}


class Store:
    """`data_streams`: what matches is a data stream, made by its first document, as with the built-in `logs-*-*`.

    `numbers`: fields that all of them map as long.
    """

    def __init__(
        self, data_streams: str = "logs-*-*", *, ids_only: bool = False, numbers: frozenset[str] = frozenset()
    ) -> None:
        self.data_streams = data_streams
        self.numbers = numbers
        self.ids_only = ids_only  # documents are neither parsed nor kept: for speed
        self.streams: dict[str, Stream] = {}
        self.writes: list[Write] = []
        self.failure_store: list[Write] = []
        self._automatic_ids = 0

    def stream(self, name: str) -> Stream:
        if name not in self.streams:
            is_data_stream = fnmatch.fnmatch(name, self.data_streams)
            self.streams[name] = Stream(name, is_data_stream, self.numbers if is_data_stream else frozenset())
        return self.streams[name]

    def roll_over(self, name: str) -> None:
        self.stream(name).roll_over()

    def alias(self, name: str) -> Stream:
        self.streams[name] = Stream(name, is_data_stream=False, is_alias=True)
        return self.streams[name]

    def creation_times(self, name: str) -> dict[str, float]:
        """Backing index -> seconds since the epoch; empty where there is no index of that name."""
        found = (stream for stream in self.streams.values() if fnmatch.fnmatch(stream.name, name))
        return {stream.backing_name(i): at for stream in found for i, at in enumerate(stream.created)}

    def by_name(self, name: str) -> Iterator[tuple[str, dict[str, bytes]]]:
        """(backing index, its documents) of a data stream, an index, a backing index, or a pattern of them."""
        for stream in self.streams.values():
            for number, documents in enumerate(stream.backing):
                backing = stream.backing_name(number)
                if fnmatch.fnmatch(stream.name, name) or fnmatch.fnmatch(backing, name):
                    yield backing, documents

    def apply(
        self, action: bytes, source: bytes, default_index: str, *, to_failure_store: bool = False
    ) -> dict[str, Any]:
        """Stores one document, or tells why not: the item of a bulk answer, without its operation's name.

        Raises ValueError when the action line makes the whole request malformed.
        """
        operation = OPERATION.match(action)
        if operation is None:
            raise ValueError("Malformed action/metadata line, expected START_OBJECT or END_OBJECT")
        found = INDEX.search(action)
        name = found[1].decode() if found else default_index
        if not name:
            raise ValueError("Validation Failed: 1: index is missing;")
        identity = ID.search(action)
        if identity is None:
            self._automatic_ids += 1
        key = identity[1].decode() if identity else f"automatic-{self._automatic_ids}"
        stream = self.stream(name)
        if stream.is_data_stream and operation[1] != b"create":
            reason = "only write ops with an op_type of create are allowed in data streams"
            return error_item(400, "illegal_argument_exception", reason)
        if stream.is_write_blocked:
            reason = f"index [{name}] blocked by: [FORBIDDEN/8/index write (api)];"
            return error_item(403, "cluster_block_exception", reason)
        documents = stream.backing[-1]
        if operation[1] == b"create" and key in documents:
            reason = f"[{key}]: version conflict, document already exists (current version [1])"
            return error_item(409, "version_conflict_engine_exception", reason)
        if not self.ids_only and (refusal := self._refuse(source, stream)):
            return refusal
        write = Write(name, stream.backing_name(len(stream.backing) - 1), key, b"" if self.ids_only else source)
        if to_failure_store:
            self.failure_store.append(write)
            return {"status": 201, "failure_store": "used"}
        documents[key] = write.source
        self.writes.append(write)
        return {"status": 201}

    def _refuse(self, source: bytes, stream: Stream) -> dict[str, Any] | None:
        excerpt = source[:SOURCE_EXCERPT].decode("utf-8", "replace")
        try:
            document = orjson.loads(source)
        except orjson.JSONDecodeError as exc:
            reason = f'{exc}\n at [Source: (byte[])"{excerpt}"]'
            return _parsing_failure(reason)
        for name in stream.numbers & document.keys():
            if not isinstance(document[name], int):
                reason = f"failed to parse field [{name}] of type [long]. Preview of field's value: '{document[name]}'"
                return error_item(400, "document_parsing_exception", reason)
        if (key := _equal_key(source)) is not None:
            return _parsing_failure(f"Duplicate field '{key}'\n at [Source: (byte[])\"{excerpt}\"]")
        if stream.is_data_stream and "@timestamp" not in document:
            reason = "data stream timestamp field [@timestamp] is missing"
            cause = {"type": "illegal_argument_exception", "reason": reason}
            return error_item(400, "document_parsing_exception", "failed to parse", cause)
        return None


def _parsing_failure(reason: str) -> dict[str, Any]:
    cause = {"type": "json_parse_exception", "reason": reason}
    return error_item(400, "document_parsing_exception", f"failed to parse: {reason}", cause)


def _equal_key(source: bytes) -> str | None:
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        keys = [key for key, _ in pairs]
        found.extend(key for key, count in Counter(keys).items() if count > 1)

    json.loads(source, object_pairs_hook=look)
    return found[0] if found else None
