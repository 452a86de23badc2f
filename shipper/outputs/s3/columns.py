"""An archived document as the columns of a table, and back: nothing is lost on the way but the order of its keys.

`id` and `time_text` are its `_id` and `@timestamp`. A container's `stream` has a column, and so has each usual member
of its `kubernetes`, which is taken apart once for many records; another file has `file_path` and `file_offset`.
`message` and `parse_error` are columns where they are texts, `truncated` where it is true. All other members stand in
`fields`, as the text of a JSON object: numbers keep their digits.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import orjson

from shipper.document import Head, head_of

_FILE = re.compile(rb',"file":\{"path":("(?:[^"\\]|\\.)*"),"offset":(\d+)\}')
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # by msgspec: lone surrogates, a deep nesting
_find_end = json.JSONDecoder().raw_decode

NAMES = ("namespace_name", "pod_name", "pod_id", "container_name", "host", "container_image")  # texts in `kubernetes`
MAPS = ("labels", "annotations")


class Record(NamedTuple):
    """One document. `pod`: the number of its `kubernetes` in `Pods`, None where it has none."""

    id: str | None
    time_text: str | None
    stream: str | None
    pod: int | None
    file_path: str | None
    file_offset: int | None
    message: str | None
    truncated: bool | None
    parse_error: str | None
    fields: str | None


class Pods:
    """The `kubernetes` objects of many documents, each once."""

    def __init__(self) -> None:
        self.objects: list[bytes] = []
        self._recent: list[int] = []  # the last used is the last

    def find(self, document: bytes, start: int) -> tuple[int, int]:
        """-> the number of the object that begins there, and where it ends. ValueError when none does."""
        for place in range(len(self._recent) - 1, -1, -1):
            number = self._recent[place]
            if document.startswith(self.objects[number], start):
                if place < len(self._recent) - 1:
                    self._recent.append(self._recent.pop(place))
                return number, start + len(self.objects[number])
        text = document[start:].decode()
        if not text.startswith("{"):
            raise ValueError("its kubernetes is no object")
        _, end = _find_end(text)
        self.objects.append(text[:end].encode())
        self._recent.append(len(self.objects) - 1)
        return self._recent[-1], start + len(self.objects[-1])


def record_of(document: bytes, pods: Pods) -> Record:
    """`document`: one line, without its newline. What does not look as ours do stands in `fields` as a whole."""
    head = head_of(document)
    try:
        if head is not None:
            return _record(document, head, pods)
    except ValueError:
        pass
    return Record(*(None,) * 9, document.decode(errors="replace"))


def _record(document: bytes, head: Head, pods: Pods) -> Record:
    """Raises ValueError, of which UnicodeDecodeError is one."""
    end, pod, path, offset = head.end, None, None, None
    if head.stream is not None:
        pod, end = pods.find(document, head.end)
    elif found := _FILE.match(document, head.end):
        path, offset, end = orjson.loads(found[1]), int(found[2]), found.end()
    identity = None if head.id is None else head.id.decode()
    stream = None if head.stream is None else head.stream.decode()
    return Record(identity, head.time.decode(), stream, pod, path, offset, *_rest(b"{" + document[end:].lstrip(b",")))


def _rest(members: bytes) -> tuple[str | None, bool | None, str | None, str | None]:
    """Message, truncated, parse_error, and all others."""
    try:
        found = _members(members)
        message, error = _take_text(found, "message"), _take_text(found, "parse_error")
    except _UNREADABLE:
        return None, None, None, members.decode()
    truncated = True if bytes(found.get("truncated", b"")) == b"true" else None
    if truncated:
        del found["truncated"]
    return message, truncated, error, _object(found) if found else None


def _take_text(members: dict[str, msgspec.Raw], name: str) -> str | None:
    raw = members.get(name)
    if raw is None or not bytes(raw).startswith(b'"'):
        return None
    del members[name]
    return _text(raw)


def _object(members: Mapping[str, msgspec.Raw]) -> str:
    return b"".join([b"{", b",".join([orjson.dumps(k) + b":" + bytes(v) for k, v in members.items()]), b"}"]).decode()


def pod_columns(kubernetes: bytes) -> dict[str, Any]:
    """NAMES, MAPS, and the other members as the text of an object, `kubernetes`."""
    try:
        members = orjson.loads(kubernetes)
    except orjson.JSONDecodeError:
        return {"kubernetes": kubernetes.decode()}
    found: dict[str, Any] = {name: members.pop(name) for name in NAMES if isinstance(members.get(name), str)}
    for name in MAPS:
        if isinstance(members.get(name), dict) and all(isinstance(v, str) for v in members[name].values()):
            found[name] = list(members.pop(name).items())
    return found | ({"kubernetes": orjson.dumps(members).decode()} if members else {})


def kubernetes_of(columns: Mapping[str, Any]) -> bytes:
    """What `pod_columns` took apart."""
    found = {name: columns[name] for name in NAMES if columns.get(name) is not None}
    found |= {name: dict(columns[name]) for name in MAPS if columns.get(name) is not None}
    others = (columns.get("kubernetes") or "{}").encode()
    return orjson.dumps(found)[:-1] + b"," * (bool(found) and others != b"{}") + others[1:]


def document_of(record: Record, kubernetes: Sequence[bytes]) -> bytes:
    """Without a newline. `kubernetes`: by `Record.pod`."""
    return b"{" + b",".join(_parts(record, kubernetes)) + b"}"


def _parts(record: Record, kubernetes: Sequence[bytes]) -> Iterable[bytes]:
    if record.id is not None:
        yield b'"_id":"%b"' % record.id.encode()
    if record.time_text is not None:
        yield b'"@timestamp":"%b"' % record.time_text.encode()
    if record.stream is not None and record.pod is not None:
        yield b'"stream":"%b","kubernetes":%b' % (record.stream.encode(), kubernetes[record.pod])
    if record.file_path is not None:
        yield b'"file":{"path":%b,"offset":%d}' % (orjson.dumps(record.file_path), record.file_offset or 0)
    if record.message is not None:
        yield b'"message":' + orjson.dumps(record.message)
    if record.truncated:
        yield b'"truncated":true'
    if record.parse_error is not None:
        yield b'"parse_error":' + orjson.dumps(record.parse_error)
    if record.fields is not None and (inner := record.fields.encode()[1:-1].strip()):
        yield inner
