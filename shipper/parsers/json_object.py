r"""Is this one JSON object? And which keys stand at its top? RFC 8259, without building anything.

`find_objects` asks msgspec, for a whole chunk in one call, and of what it refuses once more for each body: msgspec
refuses lone surrogates (`\ud800`), which pass here, and its depth depends on the interpreter's stack. `is_object`, the
slow twin that follows the RFC to the letter, is its judge: a megabyte of `[],[],` would keep it busy for half a second.
"""

import re
import sys
from collections.abc import Sequence
from itertools import accumulate, compress
from operator import itemgetter
from typing import NamedTuple

import msgspec

MAX_DEPTH = 1000  # Elasticsearch's parser refuses deeper ones, so they are text
WHITE = b" \t\r\n"

_raw = msgspec.json.Decoder(msgspec.Raw)
# Between two objects: no number, string or container that is still open goes on over it, as `{` must follow.
BETWEEN = b"\n0\n"

_BRACE = ord("{")
_SPACES = re.compile(rb"[ \t\r\n]")
_SPACE = rb"[ \t\r\n]*+"
_PLAIN_TEXT = rb'[^"\\\x00-\x1f]*+'  # possessive: what is no string is known to be none in one pass
_STRING = rb'"' + _PLAIN_TEXT + rb'(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})' + _PLAIN_TEXT + rb')*+"'
_SCALAR = _STRING + rb"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null"
_KEY = re.compile(_SPACE + rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE)
_VALUE = re.compile(_SPACE + rb"(?:(" + _SCALAR + rb")|([{\[]))")
_NEXT = re.compile(_SPACE + rb"([,}\]])")
_CLOSE = re.compile(_SPACE + rb"[}\]]")
_OPENING = re.compile(_SPACE + rb"\{")
_MEMBER = re.compile(
    _SPACE + rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE + rb"(?:(" + _SCALAR + rb")|([{\[]))" + _SPACE
)
_COMMA = re.compile(_SPACE + rb",")
_TOKEN = re.compile(_STRING + rb"|[{}\[\]]")
_TEXT = re.compile(_STRING)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")  # any four digits make as good an escape
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"{}[]")
_STEPS = [(byte in b"{[") - (byte in b"}]") for byte in range(256)]


class Member(NamedTuple):
    """At the top of an object: its key unescaped, `end` the place of the key's closing quote."""

    key: str
    end: int
    scalar: bytes  # its value as it is written; b"" for an object or array


def find_objects(bodies: Sequence[bytes]) -> list[bool]:
    """Which of them is one JSON object. They are valid UTF-8."""
    looks = _look_like_objects(bodies)
    answers = _are_objects(list(compress(bodies, looks))) if any(looks) else []
    if all(answers):
        return looks
    each = iter(answers)
    return [look and next(each) for look in looks]


def _look_like_objects(bodies: Sequence[bytes]) -> list[bool]:
    """Whether their first byte, but for white space, is `{`."""
    firsts = _first_bytes(bodies)
    looks = list(map(_BRACE.__eq__, firsts))
    for space in _SPACES.finditer(firsts):
        i = space.start()
        looks[i] = bodies[i].lstrip(WHITE)[:1] == b"{"
    return looks


def _first_bytes(bodies: Sequence[bytes]) -> bytes:
    """One for each; an empty one has a zero."""
    try:
        return bytes(map(itemgetter(0), bodies))
    except IndexError:
        return bytes(body[0] if body else 0 for body in bodies)


def _are_objects(bodies: Sequence[bytes]) -> list[bool]:
    """For bodies that begin with `{`."""
    n = len(bodies)
    if not are_all_objects(BETWEEN.join(bodies), n):
        return [_is_object_quickly(body) for body in bodies]
    if max(map(len, bodies)) <= 2 * MAX_DEPTH:  # nothing in it can be too deep
        return [True] * n
    return [not is_too_deep(body) for body in bodies]


def are_all_objects(joined: bytes, count: int) -> bool:
    """Of so many bodies that begin with `{`, with BETWEEN between them; some of them may be too deep."""
    try:
        return len(_raw.decode_lines(joined)) == 2 * count - 1
    except (msgspec.MsgspecError, RecursionError):
        return False


def _is_object_quickly(body: bytes) -> bool:
    return _is_valid(body) and not is_too_deep(body)


def _is_valid(body: bytes) -> bool:
    """Before Python 3.12 msgspec's levels count as the interpreter's own: it is given more than any body may have."""
    try:
        _raw.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(before + 2 * MAX_DEPTH)
        try:
            _raw.decode(_SURROGATE.sub(rb"\\u0020", body))
        except (msgspec.MsgspecError, RecursionError):
            return False
        finally:
            sys.setrecursionlimit(before)
    return True


def is_too_deep(body: bytes) -> bool:
    """For what is valid JSON."""
    if len(body) <= 2 * MAX_DEPTH or body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return False
    brackets = _TEXT.sub(b"", body).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets))) > MAX_DEPTH


def is_object(body: bytes) -> bool:
    """The slow twin: one object, white space around it allowed, at most MAX_DEPTH levels."""
    return _scan(body) is not None


def top_members(body: bytes) -> list[Member]:
    """Of what is one object, in order; else they are none's, or it raises ValueError."""
    members: list[Member] = []
    texts: dict[bytes, str] = {}
    found = _OPENING.match(body)
    at = found.end() if found else len(body)
    while (member := _MEMBER.match(body, at)) is not None:
        key, scalar, _ = member.groups(b"")
        text = texts.get(key)
        if text is None:
            text = texts[key] = unescape(key)
        members.append(Member(text, member.end(1) - 1, scalar))
        at = member.end()
        if not scalar:
            at = _end_of_container(body, at)
        if body[at : at + 1] == b",":
            at += 1
        elif (comma := _COMMA.match(body, at)) is not None:
            at = comma.end()
        else:
            break
    if found is None or _CLOSE.match(body, at) is None:
        raise ValueError("not a JSON object")
    return members


def _end_of_container(body: bytes, at: int) -> int:
    """`at`: behind its opening bracket."""
    depth = 1
    for token in _TOKEN.finditer(body, at):
        bracket = token[0]
        if bracket in b"{[":
            depth += 1
        elif bracket in b"}]":
            depth -= 1
            if not depth:
                return token.end()
    raise ValueError("not a JSON object")


def _scan(body: bytes) -> list[Member] | None:
    """Members at the top in order, or None when this is not one object. Iterative: depth costs no stack."""
    start = len(body) - len(body.lstrip(WHITE))
    if body[start : start + 1] != b"{":
        return None
    members: list[Member] = []
    closers = bytearray(b"}")
    at, fresh = start + 1, True  # fresh: right after an opening bracket
    key: re.Match[bytes] | None = None
    while closers:
        if fresh and (end := _CLOSE.match(body, at)):
            at, fresh = end.end() - 1, False
        else:
            if closers[-1] == 0x7D:
                key = _KEY.match(body, at)
                if key is None:
                    return None
                at = key.end()
            value = _VALUE.match(body, at)
            if value is None:
                return None
            if key is not None and len(closers) == 1:
                members.append(Member(unescape(key[1]), key.end(1) - 1, value[1] or b""))
            at, fresh = value.end(), value[2] is not None
            if value[2]:
                closers.append(0x7D if value[2] == b"{" else 0x5D)
                if len(closers) > MAX_DEPTH:
                    return None
                continue
        while closers:  # after a value: a comma, or the end of one or more containers
            after = _NEXT.match(body, at)
            if after is None:
                return None
            at = after.end()
            if after[1] == b",":
                break
            if after[1][0] != closers.pop():
                return None
    return members if not body[at:].strip(WHITE) else None


_ESCAPE = re.compile(r'\\(u[0-9a-fA-F]{4}|["\\/bfnrt])')
_PLAIN = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def unescape(quoted: bytes) -> str:
    """The text of a JSON string. A lone surrogate stays one."""
    text = quoted[1:-1].decode("utf-8", "replace")
    if "\\" not in text:
        return text
    text = _ESCAPE.sub(lambda m: chr(int(m[1][1:], 16)) if m[1][0] == "u" else _PLAIN.get(m[1], m[1]), text)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")  # joins pairs
