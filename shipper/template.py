"""Templates of targets and tags: `logs-{namespace}-{time:%Y.%m.%d}`.

Values come from paths, labels and records, so they are confined to where they stand: nothing that a pod is called can
leave the index name, key or path that the template's author wrote. A missing value is `unknown`.
"""

import datetime as dt
import re
import zlib
from collections.abc import Callable
from functools import cached_property
from typing import Literal

import msgspec

Style = Literal["index", "key", "path", "tag"]
Values = Callable[[str, str], str | None]  # ("label", "app") -> its value; ("namespace", "") -> ...

PLAIN = ("namespace", "pod", "container", "tag", "node", "id", "path", "dir", "file", "stem")
NAMED = ("label", "annotation", "field", "time")
UNKNOWN = "unknown"
LONGEST_VALUE_BYTES = 128  # in an index name, key or path; these may have 255, 1,024 and (a component) 255 bytes
LONGEST_INDEX_BYTES = 255

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
# How much of an RFC 3339 time each strftime directive depends on, in characters.
_TIME_CHARS = {"Y": 4, "y": 4, "m": 7, "b": 7, "B": 7, "d": 10, "j": 10, "a": 10, "A": 10, "u": 10, "w": 10}
_TIME_CHARS |= {"V": 10, "G": 10, "U": 10, "W": 10, "F": 10, "e": 10}
_TIME_CHARS |= {"H": 13, "I": 13, "p": 13, "M": 16, "S": 19, "%": 0}
_NOT_INDEX = re.compile(r"[^a-z0-9._\-]")
_NOT_KEY = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_TIME = re.compile(rb"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(Z|([+-])(\d\d):(\d\d))")


def parse_time(time: bytes) -> dt.datetime | None:
    """RFC 3339 to UTC, to the second; None when it is none."""
    match = _TIME.fullmatch(time)
    if match is None:
        return None
    try:
        parsed = dt.datetime(*map(int, match.group(1, 2, 3, 4, 5, 6)), tzinfo=dt.UTC)  # type: ignore[misc,arg-type]
        if match[7] != b"Z":
            offset = dt.timedelta(hours=int(match[9]), minutes=int(match[10]))
            parsed -= offset if match[8] == b"+" else -offset
    except (ValueError, OverflowError):  # the 30th of February; the year 1 in another zone
        return None
    return parsed


def confine(value: str, style: Style) -> str:
    """One value made safe for where it stands. Never empty."""
    if style == "tag":
        return value or UNKNOWN
    safe = _NOT_INDEX.sub("_", value.lower()) if style == "index" else _NOT_KEY.sub("_", value).replace("..", "__")
    return "_" if safe == "." else _shorten(safe) or UNKNOWN


def _shorten(value: str) -> str:
    """The end of what is too long gives way to a hash, so that different values stay different."""
    encoded = value.encode()
    if len(encoded) <= LONGEST_VALUE_BYTES:
        return value
    return encoded[: LONGEST_VALUE_BYTES - 9].decode(errors="ignore") + f"-{zlib.crc32(encoded):08x}"


def _index_name(rendered: str, *, own_dot: bool) -> str:
    """By https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-indices-create; never a system index
    (`.security`), unless the dot at its start is the template's own.
    """
    name = _NOT_INDEX.sub("_", rendered.lower()).lstrip("-_+" if own_dot else "-_+.")[:LONGEST_INDEX_BYTES]
    return UNKNOWN if name in ("", ".", "..") else name


class Template(msgspec.Struct, frozen=True, dict=True):
    """Parsed once; `parts` alternate literal text and (placeholder, name)."""

    text: str
    parts: tuple[str | tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str, *, allowed: tuple[str, ...] = PLAIN + NAMED) -> "Template":
        """Raises ValueError with a sentence when a placeholder does not exist or is malformed."""
        parts: list[str | tuple[str, str]] = []
        end = 0
        for match in _PLACEHOLDER.finditer(text):
            parts.append(text[end : match.start()])
            end = match.end()
            name, colon, argument = match[1].partition(":")
            if name not in allowed:
                choice = ", ".join("{" + (f"{p}:..." if p in NAMED else p) + "}" for p in allowed)
                raise ValueError(f"there is no placeholder {match[0]} here; there are {choice}")
            if (name in NAMED) != bool(argument) or bool(colon) != bool(argument):
                form = "{" + (f"{name}:..." if name in NAMED else name) + "}"
                raise ValueError(f"{match[0]} should read {form}")
            if name == "time":
                wrong = [d for d in _DIRECTIVE.findall(argument) if d not in _TIME_CHARS]
                if wrong:
                    raise ValueError(f"{match[0]}: %{wrong[0]} is not supported; use %Y %m %d %H %M and the like")
            parts.append((name, argument))
        parts.append(text[end:])
        if any(isinstance(p, str) and re.search(r"[{}]", p) for p in parts):
            raise ValueError(f'"{text}" has a brace without its partner')
        return cls(text, tuple(p for p in parts if p))

    @cached_property
    def placeholders(self) -> frozenset[str]:
        return frozenset(p[0] for p in self.parts if not isinstance(p, str))

    @property
    def needs_metadata(self) -> bool:
        return not self.placeholders.isdisjoint(("label", "annotation"))

    @property
    def needs_record(self) -> bool:
        return "field" in self.placeholders

    @cached_property
    def time_chars(self) -> int:
        """The rendering is the same for all times in UTC that share so many leading characters; 0: for all."""
        found = [_DIRECTIVE.findall(p[1]) for p in self.parts if not isinstance(p, str) and p[0] == "time"]
        return max((_TIME_CHARS[d] for directives in found for d in directives), default=0)

    def render(self, values: Values, *, style: Style, time: bytes = b"") -> str:
        """`time` is a record's RFC 3339 time. `{id}` stays as it is: who begins the object knows it."""
        out = []
        for part in self.parts:
            if isinstance(part, str):
                out.append(part)
            elif part[0] == "id":
                out.append("{id}")
            elif part[0] == "time":
                parsed = parse_time(time)
                out.append(parsed.strftime(part[1]) if parsed else UNKNOWN)
            else:
                out.append(confine(values(*part) or UNKNOWN, style))
        rendered = "".join(out)
        return _index_name(rendered, own_dot=self.text.startswith(".")) if style == "index" else rendered

    def __str__(self) -> str:
        return self.text
