"""What the key of an object tells of its records, where the template that it was made of is known: so that objects of
another time or namespace need not be read.
"""

import datetime as dt
import re
from collections.abc import Iterator

from shipper.template import Template, confine

_DIGITS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2}  # strftime's directives, the coarsest first
_SPANS_S = (366 * 86400.0, 31 * 86400.0, 86400.0, 3600.0, 60.0)  # of these, at most
_ANYTHING = "[^/]*?"


class KeyPattern:
    """Keys of one template. What cannot be told from a key counts as fitting."""

    def __init__(self, template: Template) -> None:
        self._seen: set[str] = set()
        self._pattern = re.compile("".join(self._parts(template)), re.DOTALL)

    def may_hold(self, key: str, *, since: float | None, until: float | None, namespace: str | None) -> bool:
        """Records of since <= time < until, in epoch seconds, and of this namespace."""
        found = self._pattern.fullmatch(key)
        if found is None:
            return True
        told = found.groupdict()
        if namespace is not None and told.get("namespace") not in (None, confine(namespace, "key")):
            return False
        begin, end = _span({name: int(value) for name, value in told.items() if name in _DIGITS})
        return (until is None or begin < until) and (since is None or end > since)

    def _parts(self, template: Template) -> Iterator[str]:
        around = ["/", *template.parts, "/"]
        for before, part, behind in zip(around, template.parts, around[2:], strict=False):
            if isinstance(part, str):
                yield re.escape(part)
            elif part[0] == "time":
                yield from self._time(part[1])
            elif part[0] == "namespace" and _is_component(before, behind) and self._is_new("namespace"):
                yield "(?P<namespace>[^/]+)"
            else:
                yield _ANYTHING

    def _time(self, form: str) -> Iterator[str]:
        for text in re.split(r"(%.)", form):
            directive = text[1:] if text.startswith("%") else ""
            if directive in _DIGITS and self._is_new(directive):
                yield rf"(?P<{directive}>\d{{{_DIGITS[directive]}}})"
            else:
                yield _ANYTHING if directive else re.escape(text)

    def _is_new(self, name: str) -> bool:
        is_new = name not in self._seen
        self._seen.add(name)
        return is_new


def _is_component(before: str | tuple[str, str], behind: str | tuple[str, str]) -> bool:
    """Else nobody can know where a value ends: `{namespace}-{pod}` is read in two ways."""
    return isinstance(before, str) and before.endswith("/") and isinstance(behind, str) and behind.startswith("/")


def _span(told: dict[str, int]) -> tuple[float, float]:
    """Epoch seconds of the year, month, ... or minute, as far as they are told without a gap."""
    known: list[int] = []
    for name in _DIGITS:
        if name not in told:
            break
        known.append(told[name])
    if not known:
        return float("-inf"), float("inf")
    try:
        begin = dt.datetime(*(known + [1] * (3 - len(known))), tzinfo=dt.UTC).timestamp()  # type: ignore[misc,arg-type]
    except ValueError:  # the 30th of February
        return float("-inf"), float("inf")
    return begin, begin + _SPANS_S[len(known) - 1]
