"""Which records may fulfil a condition on their fields, as their raw bytes tell: the others need not be decoded.

A field that equals `error` stands in its record as `"<name>"`, a colon and `error`, unless something of it is written
with an escape. So records in which neither is found cannot fulfil the condition; what is found is only a candidate.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate

from shipper.conditions import All, AnyOf, Condition, Test

Places = set[int] | None  # of records; None: any of them

_NAME = re.compile(r"[\w@.\-]+", re.ASCII)
_VALUE = re.compile(r"[A-Za-z_][\w \-]*|[1-9]\d{0,14}", re.ASCII)  # written in one way only, unless with escapes
_NOT_WORDS = frozenset(("nan", "inf", "infinity", "none"))  # what Python calls numbers and null that JSON writes else
_ESCAPE = b"\\u"  # of these characters, \u00.. is the only other spelling in JSON
_SPACE = rb"[ \t\r\n]*"


class Bodies:
    """Bodies of a chunk, to be searched in one go."""

    def __init__(self, bodies: Sequence[bytes]) -> None:
        self._text = b"\n".join(bodies)
        self._ends = list(accumulate(len(body) + 1 for body in bodies))
        self._escaped: set[int] | None = None

    def holding(self, pattern: re.Pattern[bytes]) -> set[int]:
        """Those in which it begins; spaces within a match may reach into the next one."""
        return self._places(match.start() for match in pattern.finditer(self._text))

    def escaped(self) -> set[int]:
        """Those with an escape in which anything may be hidden."""
        if self._escaped is None:
            self._escaped = self._places(_occurrences(_ESCAPE, self._text))
        return self._escaped

    def _places(self, starts: Iterable[int]) -> set[int]:
        return {bisect_right(self._ends, start) for start in starts}


def candidates(condition: Condition | None, bodies: Bodies) -> Places:
    """Records that may fulfil it; every other one surely does not."""
    match condition:
        case Test():
            pattern = _pattern(condition)
            return None if pattern is None else bodies.holding(pattern) | bodies.escaped()
        case All():
            known = [found for part in condition.parts if (found := candidates(part, bodies)) is not None]
            return set[int].intersection(*known) if known else None
        case AnyOf():
            return union(candidates(part, bodies) for part in condition.parts)
        case _:
            return None


def union(places: Iterable[Places]) -> Places:
    out = set[int]()
    for each in places:
        if each is None:
            return None
        out |= each
    return out


@cache
def _pattern(test: Test) -> re.Pattern[bytes] | None:
    """What a record that fulfils it must hold; None where nothing of the kind is known."""
    if test.subject != "field" or test.test not in ("equals", "in") or not _NAME.fullmatch(test.name):
        return None
    if not all(_VALUE.fullmatch(value) and value.lower() not in _NOT_WORDS for value in test.values):
        return None
    last = re.escape(test.name.rpartition(".")[2].encode())  # a key of that name, or one that ends in it
    values = b"|".join(re.escape(value.encode()) for value in test.values)
    return re.compile(last + b'"' + _SPACE + b":" + _SPACE + b'"?(?:' + values + b")")


def _occurrences(needle: bytes, text: bytes) -> Iterable[int]:
    at = text.find(needle)
    while at >= 0:
        yield at
        at = text.find(needle, at + 1)
