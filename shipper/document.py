"""What stands around a record in its document: identity, metadata and static fields, encoded once per container."""

import datetime as dt
import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from shipper.record import Envelope, Source
from shipper.template import parse_time

_HEAD = re.compile(
    rb'\{(?:"_id":"([^"\\]+)",)?("@timestamp":"([^"\\]+)"(?:,"stream":"(stdout|stderr)","kubernetes":)?)'
)
_FRACTION = re.compile(rb"\.(\d+)")


def id_base(source: Source, first_time_ns: int) -> str:
    """Of a container's generation: `<time of its first line>-<hash of pod uid, container and restart count>`, in hex.

    It begins with the time since such ids cost an index the least. Nothing in it can change when a file is read again.
    """
    who = f"{source.uid}\0{source.container}\0{source.restart}".encode("utf-8", "surrogateescape")
    return f"{first_time_ns:x}-{hashlib.blake2b(who, digest_size=8).hexdigest()}"


def time_ns(time: bytes) -> int:
    """An RFC 3339 time (of a CRI or docker line) in nanoseconds since the epoch; 0 when it is none."""
    parsed = parse_time(time)
    if parsed is None:
        return 0
    fraction = _FRACTION.search(time)
    return int(parsed.timestamp()) * 10**9 + (int(fraction[1][:9].ljust(9, b"0")) if fraction else 0)


def rfc3339(epoch_s: float) -> bytes:
    return dt.datetime.fromtimestamp(epoch_s, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()


def kubernetes_members(source: Source, document: Mapping[str, Any]) -> dict[str, Any]:
    """The `kubernetes` object: identity from the path, and what the API adds."""
    return {
        "namespace_name": valid_name(source.namespace),
        "pod_name": valid_name(source.pod),
        "pod_id": document.get("pod_id", valid_name(source.uid)),
        "container_name": valid_name(source.container),
        **{key: value for key, value in document.items() if key != "pod_id"},
    }


def valid_name(name: str | None) -> str:
    """Names of files are any bytes: what is invalid in them has come as lone surrogates, and becomes U+FFFD."""
    return (name or "").encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def make_envelope(
    source: Source,
    *,
    base: str,
    frame: tuple[bytes | None, bytes],
    document: Mapping[str, Any],
    static: Mapping[str, Any],
) -> Envelope:
    """`base` is the generation's id base; `frame` is what the output's `frame(target)` gave."""
    head, opening = frame
    id_prefix = None if head is None else head + base.encode() + b"-"
    before_time = opening + b'"@timestamp":"'
    members = _members(static)
    if not source.is_container:
        file = b'","file":{"path":%b,"offset":' % orjson.dumps(valid_name(source.path))
        return Envelope(id_prefix, before_time, (file, file), b"}" + members)
    kubernetes = b'","kubernetes":' + orjson.dumps(kubernetes_members(source, document)) + members
    return Envelope(
        id_prefix,
        before_time,
        (b'","stream":"stdout' + kubernetes, b'","stream":"stderr' + kubernetes),
    )


def _members(values: Mapping[str, Any]) -> bytes:
    return b"".join(b"," + orjson.dumps(key) + b":" + orjson.dumps(value) for key, value in values.items())


def reserved_keys(source: Source, static: Mapping[str, Any], *, has_id: bool) -> frozenset[str]:
    """Keys that an application's JSON may not overwrite; `truncated` and `parse_error` only where we write them."""
    own = {"@timestamp", *static} | ({"stream", "kubernetes"} if source.is_container else {"file"})
    return frozenset(own | ({"_id"} if has_id else set()))


class Head(NamedTuple):
    """What a document begins with, as an envelope writes it."""

    id: bytes | None
    time: bytes
    stream: bytes | None  # None where it is no container's
    members: bytes  # the document behind its id: `"@timestamp":...}`
    end: int  # where its `kubernetes` begins, or the comma behind the time

    @property
    def is_container(self) -> bool:
        return self.stream is not None


def head_of(document: bytes) -> Head | None:
    """None for what is none of ours. `document` is one line, without its newline."""
    found = _HEAD.match(document)
    if found is None or not document.endswith(b"}"):
        return None
    return Head(found[1], found[3], found[4], document[found.start(2) :], found.end())
