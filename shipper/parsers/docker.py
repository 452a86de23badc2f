r"""docker's json-file: `{"log":"text\n","stream":"stdout","time":"2026-..."}`; `log` ends in a newline or goes on.

https://github.com/moby/moby/blob/master/daemon/logger/jsonfilelog/jsonlog/jsonlog.go
"""

import json
import re
from typing import Literal

import msgspec

from shipper.parsers.cri import Columns
from shipper.parsers.lines import FULL, PART
from shipper.template import parse_time

FRAME_BYTES = (
    128 * 1024
)  # a line may have so many above the limit: docker puts 16 KiB of text into one, each byte as up to six

_SURROGATE = re.compile("[\ud800-\udfff]")


class _Line(msgspec.Struct):
    log: str
    stream: Literal["stdout", "stderr"]
    time: str


_decoder = msgspec.json.Decoder(_Line)


def columns(texts: list[bytes]) -> Columns:
    """Of complete lines. A line that is not docker's has tag and time b"", and is its own body."""
    times, streams, tags, bodies = [], [], [], []
    for text in texts:
        line = _decode(text)
        if line is None:
            time, stream, tag, body = b"", b"stdout", b"", text
        else:
            time, stream = line.time.encode(), line.stream.encode()
            tag = FULL if line.log.endswith("\n") else PART
            body = line.log.removesuffix("\n").encode()
        times.append(time)
        streams.append(stream)
        tags.append(tag)
        bodies.append(body)
    return times, streams, tags, bodies


def _decode(text: bytes) -> _Line | None:
    try:
        line: _Line | None = _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        line = _decode_slowly(text)
    return line if line is not None and parse_time(line.time.encode()) else None


def _decode_slowly(text: bytes) -> _Line | None:
    """What msgspec refuses and RFC 8259 allows, lone surrogates above all; invalid UTF-8 is replaced."""
    try:
        line = msgspec.convert(json.loads(text.decode("utf-8", "replace"), parse_constant=_refuse), _Line)
    except (ValueError, RecursionError):
        return None
    return _Line(*(_SURROGATE.sub("\ufffd", part) for part in (line.log, line.stream, line.time)))  # type: ignore[arg-type]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def first_piece(text: bytes, limit: int) -> int:
    """How many bytes of a line stand before its first cut; only what is too long for docker itself is cut so."""
    return limit if len(text) > limit + FRAME_BYTES else len(text)


def is_docker(line: bytes) -> bool:
    return _decode(line) is not None
