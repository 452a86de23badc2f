"""What of a document is the record's own: the inside of a JSON string, or the members of an object."""

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import orjson

from shipper.frame import Frame
from shipper.parsers.json_object import WHITE, top_members
from shipper.parsers.substring import occurs

SEPARATORS = b',"message":"', b","  # between what is ours and what is the record's: of texts, and of JSON
LARGE_BYTES = 64 * 1024  # bodies of this size are worth no copy of all together

_BETWEEN = b"\x7f"  # which JSON leaves as it is, and nearly all logs are without


def escape(bodies: Sequence[bytes]) -> list[bytes]:
    """The inside of JSON strings (RFC 8259, section 7), of all bodies in one go. They are valid UTF-8."""
    if sum(map(len, bodies)) <= LARGE_BYTES * len(bodies):
        escaped = _escape_one(_BETWEEN.join(bodies)).split(_BETWEEN)
        if len(escaped) == len(bodies):
            return escaped
    return [_escape_one(body) for body in bodies]


def _escape_one(text: bytes) -> bytes:
    return orjson.dumps(text.decode())[1:-1]


class Suspects(NamedTuple):
    """Finds whatever may be a reserved key: as it is written, or with an escape in it."""

    needles: tuple[bytes, ...]  # substring search is five times as fast as one regular expression for all; and a byte
    # that is not there at all (an @, mostly) is found to be missing in no time
    escape: bytes
    pattern: re.Pattern[bytes]

    def may_be_in(self, text: bytes) -> bool:
        has_escape = b"\\" in text and occurs(self.escape, text)
        return has_escape or any(needle[1:2] in text and occurs(needle, text) for needle in self.needles)


_ORDINARY = re.compile(r"[\w@.\-]+", re.ASCII)  # of these characters, \u00.. is the only other spelling in JSON


@cache
def suspects_of(reserved: frozenset[str]) -> Suspects:
    escape = b"\\u00" if all(_ORDINARY.fullmatch(key) for key in reserved) else b"\\"
    needles = tuple(b'"' + key.encode() for key in sorted(reserved))
    keys = b"|".join(map(re.escape, needles))
    return Suspects(needles, escape, re.compile(b"(?:" + keys + b')[".]|' + re.escape(escape)))


def object_content(body: bytes, frame: Frame, *, is_cut: bool) -> tuple[bytes, bytes]:
    """The slow way for one JSON object: keys that are ours are renamed. -> separator, members and `}`."""
    message = b',"message":"%b"' % escape([body])[0] if frame.keep_message else b""
    body = body.strip(WHITE)
    ours = set(frame.reserved)
    ours |= {"message"} if frame.keep_message else set()
    ours |= {"truncated"} if is_cut else set()
    members = top_members(body)
    taken = {member.key for member in members}
    suffixes = {key: _suffix(key, taken) for key in dict.fromkeys(m.key for m in members) if _is_ours(key, ours)}
    pieces, at = [], 1
    for member in members:
        if member.key in suffixes:
            pieces += [body[at : member.end], suffixes[member.key]]
            at = member.end
    pieces.append(body[at:])
    content = b"".join(pieces).lstrip(WHITE)
    return message + (b"," if members else b""), content.replace(b"\n", b" ")


def _is_ours(key: str, ours: set[str]) -> bool:
    return key in ours or any(key.startswith(name + ".") for name in ours)


def _suffix(key: str, taken: set[str]) -> bytes:
    """What makes a name that is not `taken`, and takes it."""
    suffix = "_original"
    while key + suffix in taken:
        suffix += "_original"
    taken.add(key + suffix)
    return suffix.encode()
